"""Pictures to classify come out as the test set does, and what cannot be read is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiment.data_description import resized_side
from experiment.trained.part.input_file import find_files, read_image
from tests.support.image_files import write_image_folder
from tests.support.odd_pictures import PICTURES
from util.image.imagenet import load_imagenet

PLAIN = {"image_size": 5, "resize": 5, "mean": [0.5], "std": [0.25]}


def test_an_image_of_imagenets_test_set_is_what_the_network_was_tested_on(tmp_path):
    data = load_imagenet(write_image_folder(tmp_path, classes=3, train=1), image_size=32)
    sizes = {"image_size": 32, "resize": resized_side(data.name, 32)}
    description = {**sizes, "mean": data.mean, "std": data.std}
    for i in range(3):
        expected = data.to_input(data.test[i][0][None])
        assert torch.equal(read_image(data.test.path(i), description, 3), expected)


KINDS = ["gray.png", "gray16.png", "gray16.tif", "gray_alpha.png", "rgb.png", "rgb.bmp"]


@pytest.mark.parametrize("name", KINDS)
def test_a_gray_network_sees_the_gray_of_every_kind(tmp_path, name):
    content, pixels = PICTURES[name]
    (tmp_path / name).write_bytes(content)
    gray = np.array(Image.fromarray(pixels).convert("L"))[:, :5]  # the centre: 5 of 6 columns
    seen = read_image(tmp_path / name, PLAIN, 1)
    assert torch.equal(seen, (torch.from_numpy(gray)[None, None].float() / 255 - 0.5) / 0.25)


def test_folders_are_searched_in_order(tmp_path):
    """As `folders_below` finds them, with links that lead nowhere: these cannot be read."""
    (tmp_path / "b").mkdir()
    for name in ("b/2.PNG", "b/1.jpg", "a.png", "b/notes.txt", "b/._1.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "c").symlink_to("b", target_is_directory=True)
    (tmp_path / "d.png").symlink_to("gone")
    found = [str(p.relative_to(tmp_path)) for p in find_files([tmp_path], (".png", ".jpg"))]
    assert found == ["a.png", "b/1.jpg", "b/2.PNG", "d.png"]
    assert list(find_files([tmp_path / "c"], (".jpg",))) == [tmp_path / "c" / "1.jpg"]
    with pytest.raises(ValueError, match=r"has no files of the kinds \.npz"):
        list(find_files([tmp_path], (".npz",)))
