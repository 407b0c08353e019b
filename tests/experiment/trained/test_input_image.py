"""Pictures to classify come out as the test set does, and what cannot be read is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiment.data_description import resized_side
from experiment.trained.input_image import read_image
from tests.support.image_files import write_image_folder
from util.imagenet import load_imagenet

PLAIN = {"image_size": 5, "resize": 5, "mean": [0.5], "std": [0.25]}


def test_an_image_of_imagenets_test_set_is_what_the_network_was_tested_on(tmp_path):
    data = load_imagenet(write_image_folder(tmp_path, classes=3, train=1), image_size=32)
    description = {"image_size": 32, "resize": resized_side(data.name, 32),
                   "mean": data.mean, "std": data.std}  # fmt: skip
    for i in range(3):
        expected = data.to_input(data.test[i][0][None])
        assert torch.equal(read_image(data.test.path(i), description, 3), expected)


@pytest.mark.parametrize("name", ["gray.png", "gray.tif"])
def test_16_bits_of_gray_are_the_same_picture_as_8(tmp_path, name):
    gray = np.random.default_rng(0).integers(0, 256, (5, 5)).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / name)
    expected = (torch.from_numpy(gray).float() / 255 - 0.5) / 0.25
    for path in (tmp_path / "8.png", tmp_path / name):
        assert torch.equal(read_image(path, PLAIN, 1), expected[None, None])


def test_pixels_without_a_known_range_are_refused(tmp_path):
    Image.fromarray(np.ones((5, 5), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="mode F, whose range is unknown: save it with 8 bits"):
        read_image(tmp_path / "x.tif", PLAIN, 1)
