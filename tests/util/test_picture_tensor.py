"""The faster decoder is taken for ordinary files, and for those alone."""

import pytest
import torch

from tests.support.odd_pictures import PICTURES
from util import picture_tensor
from util.picture_tensor import is_ordinary, read_picture_tensor

ORDINARY = {"gray.png", "rgb.png", "really_png.JPEG", "rgb.jpg", "progressive.JPG", "gray.jpeg",
            "cmyk.jpg", "turned_1.jpg", "bad_exif.jpg", "no_exif.jpg"}  # fmt: skip


def test_ordinary_files_are_known_by_their_header():
    assert {name for name, (content, _) in PICTURES.items() if is_ordinary(content)} == ORDINARY


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_a_header_that_ends_early_or_is_damaged_raises_nothing(name):
    content, _ = PICTURES[name]
    for length in range(len(content)):
        is_ordinary(content[:length])
        is_ordinary(content[:length] + bytes([content[length] ^ 0xFF]) + content[length + 1 :])


def test_ordinary_files_never_reach_pillow(tmp_path, monkeypatch):
    def refuse(path):
        raise AssertionError(path)

    monkeypatch.setattr(picture_tensor, "read_picture", refuse)
    for name in ORDINARY:
        content, expected = PICTURES[name]
        (tmp_path / name).write_bytes(content)
        assert read_picture_tensor(tmp_path / name).equal(
            torch.tensor(expected.copy()).permute(2, 0, 1)
        )
