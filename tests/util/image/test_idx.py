"""util.image.idx reads whole IDX files and nothing else."""

import gzip

import numpy as np
import pytest

from tests.support.data_files import write_idx
from util.image.idx import read_idx

VALUES = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["images", "images.gz"])
@pytest.mark.parametrize("shape", [(105,), (15, 7), (5, 7, 3)])
def test_what_was_written_is_read(tmp_path, name, shape):
    write_idx(tmp_path / name, VALUES.reshape(shape))
    read = read_idx(tmp_path / name, dimensions=len(shape))
    assert np.array_equal(read.numpy(), VALUES.reshape(shape))


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_every_truncation_is_named(tmp_path, name):
    path = tmp_path / name
    write_idx(path, VALUES)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"{name} is not a whole IDX file.*delete it"):
            read_idx(path, dimensions=3)


def test_every_flipped_bit_of_a_gzip_file_is_noticed_or_changes_nothing(tmp_path):
    path = tmp_path / "images.gz"
    write_idx(path, VALUES)
    content = path.read_bytes()
    harmless = 0  # time stamp, file name, padding
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            read = read_idx(path, dimensions=3)
        except ValueError as error:
            assert "images.gz is not a whole IDX file" in str(error)
        else:
            assert np.array_equal(read.numpy(), VALUES)
            harmless += 1
    assert harmless < 8 * 20


@pytest.mark.parametrize("name", ["data", "data.gz"])
@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"PK\x03\x04 a zip file", "it begins with '504b0304', not '00000803'"),
        (b"\0\0\x08\x01" + bytes(60), "begins with '00000801'"),  # labels in place of images
        (b"\0\0\x08\x03" + b"\xff" * 12, "announces .* bytes of data, it has 0"),
        (b"\0\0\x08\x03\0\0\0\1\0\0\0\2\0\0\0\1abc", "announces 2 bytes of data, it has 3"),
    ],
)
def test_foreign_files_are_refused(tmp_path, name, content, cause):
    packed = gzip.compress(content) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(packed)
    with pytest.raises(ValueError, match=cause):
        read_idx(tmp_path / name, dimensions=3)
