"""Every kind of picture file through every reader: the same pixels, and the right ones."""

import numpy as np
import pytest

from experiment.trained.input_file import read_image
from tests.support.odd_pictures import PICTURES, REFUSED
from util.image_folder import READERS, to_uint8
from util.picture import UNREADABLE, reason_of

PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


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
