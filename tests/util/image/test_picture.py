"""Every kind of picture file through every reader: the same pixels, and the right ones."""

import numpy as np
import pytest

from experiment.trained.part.input_file import read_image
from tests.support.odd_pictures import PICTURES, REFUSED
from util.image import picture
from util.image.files import READERS, to_uint8
from util.image.picture import UNREADABLE, is_ordinary, read_picture_tensor, reason_of

PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
# Those that the faster decoder is taken for.
ORDINARY = {
    *("gray.png", "rgb.png", "really_png.JPEG", "rgb.jpg", "progressive.JPG", "gray.jpeg"),
    *("cmyk.jpg", "turned_1.jpg", "bad_exif.jpg", "no_exif.jpg"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_training_and_predictions_see_the_same_pixels(tmp_path, name):
    content, expected = PICTURES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for reader in READERS.values():
        np.testing.assert_array_equal(to_uint8(reader(path)).permute(1, 2, 0).numpy(), expected)
    side = min(expected.shape[:2])
    height, width = ((size - side) / 2 for size in expected.shape[:2])
    top, left = round(height), round(width)  # as torchvision cuts the centre
    seen = read_image(path, {**PLAIN, "image_size": side, "resize": side}, 3)
    square = expected[top : top + side, left : left + side]
    np.testing.assert_array_equal((seen[0] * 255).round().permute(1, 2, 0).numpy(), square)


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_known_pixels_is_refused_by_all(tmp_path, name):
    content, reason = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(content)
    for read in (*READERS.values(), lambda path: read_image(path, PLAIN | {"image_size": 5}, 3)):
        with pytest.raises(UNREADABLE) as caught:
            read(path)
        assert reason in reason_of(caught.value)


def test_the_faster_decoder_is_taken_for_ordinary_files_alone(tmp_path, monkeypatch):
    assert {name for name, (content, _) in PICTURES.items() if is_ordinary(content)} == ORDINARY
    monkeypatch.setattr(picture, "read_picture", lambda path: pytest.fail(f"{path} met Pillow"))
    for name in ORDINARY:
        (tmp_path / name).write_bytes(PICTURES[name][0])
        read_picture_tensor(tmp_path / name)


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_a_header_that_ends_early_or_is_damaged_raises_nothing(name):
    content, _ = PICTURES[name]
    for length in range(len(content)):
        is_ordinary(content[:length])
        is_ordinary(content[:length] + bytes([content[length] ^ 0xFF]) + content[length + 1 :])
