"""Pictures to classify come out as the test set does, and what cannot be read is refused."""

import pytest
import torch

from experiment.data_description import resized_side
from experiment.trained.input_image import read_image
from tests.support.image_files import write_image_folder
from tests.support.odd_pictures import PICTURES
from util.imagenet import load_imagenet

PLAIN = {"image_size": 5, "resize": 5, "mean": [0.5], "std": [0.25]}


def test_an_image_of_imagenets_test_set_is_what_the_network_was_tested_on(tmp_path):
    data = load_imagenet(write_image_folder(tmp_path, classes=3, train=1), image_size=32)
    description = {"image_size": 32, "resize": resized_side(data.name, 32),
                   "mean": data.mean, "std": data.std}  # fmt: skip
    for i in range(3):
        expected = data.to_input(data.test[i][0][None])
        assert torch.equal(read_image(data.test.path(i), description, 3), expected)


@pytest.mark.parametrize("name", ["gray.png", "gray16.png", "gray16.tif", "gray_alpha.png"])
def test_a_gray_network_sees_the_gray_of_every_kind(tmp_path, name):
    content, pixels = PICTURES[name]
    (tmp_path / name).write_bytes(content)
    expected = (torch.tensor(pixels[:, :5, 0]).float() / 255 - 0.5) / 0.25
    seen = read_image(tmp_path / name, {**PLAIN, "image_size": 5, "resize": 5}, 1)
    assert torch.equal(seen, expected[None, None])
