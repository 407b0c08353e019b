"""A file is what it holds, whatever its name."""

import gzip
import io
import json
import os
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from util.file.kind import HEAD, Kind, kind_of_file


def picture(form):
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, form)
    return content.getvalue()


def saved(save, *values, **options):
    content = io.BytesIO()
    save(*(content if value is ... else value for value in values), **options)
    return content.getvalue()


def program():
    net = torch.nn.Linear(2, 2)
    return saved(torch.export.save, torch.export.export(net, (torch.zeros(1, 2),)), ...)


def safetensors():
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


PICTURES = ("PNG", "JPEG", "GIF", "TIFF", "WEBP")
CONTENTS = {
    "torch.save": (lambda: saved(torch.save, {"a": torch.zeros(3)}, ...), Kind.TORCH),
    "program": (program, Kind.PROGRAM),
    "safetensors": (safetensors, Kind.SAFETENSORS),
    "npz": (lambda: saved(np.savez, ..., t=np.zeros(3)), Kind.ARRAYS),
    "npy": (lambda: saved(np.save, ..., np.zeros(3)), Kind.ARRAYS),
    "ONNX": (lambda: b"\x08\x0a\x12\x07pytorch\x1a" + bytes(100), Kind.ONNX),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), Kind.HDF5),
    "AEDAT": (lambda: b"#!AER-DAT2.0\r\n" + bytes(16), Kind.RECORDING),
    **{form: (partial(picture, form), Kind.PICTURE) for form in PICTURES},
    "gzip": (lambda: gzip.compress(b"x"), Kind.ARCHIVE),
    "JSON": (lambda: b'{"rows": []}\n', Kind.TEXT),
    "text cut inside a character": (lambda: ("x" * (HEAD - 1) + "é").encode(), Kind.TEXT),
    "nothing": (lambda: b"", None),
    "zeros": (lambda: bytes(5000), None),
    "noise": (lambda: np.random.default_rng(0).bytes(10_000), None),
    "pickle": (lambda: b"\x80\x02}q\x00.", None),
    "torn zip": (lambda: program()[:300], None),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_content_says_what_it_is(name, tmp_path):
    make, kind = CONTENTS[name]
    (tmp_path / "best.pt").write_bytes(make())
    assert kind_of_file(tmp_path / "best.pt") is kind


def test_what_is_no_file_has_no_kind(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe"):
        assert kind_of_file(path) is None
