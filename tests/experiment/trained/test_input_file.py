"""Pictures to classify come out as the test set does, and what cannot be read is refused."""

import pytest
import torch

from experiment.data_description import resized_side
from experiment.trained.input_file import find_files, read_image
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


def test_folders_are_searched_in_order(tmp_path):
    left_by_systems = ("._a.png", "b/.thumbs/2.png", "__MACOSX/b/2.PNG", "@eaDir/a.png")
    for name in ("b/2.PNG", "b/1.jpg", "a.png", "b/notes.txt", *left_by_systems):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(find_files([tmp_path], (".png", ".jpg")))
    assert [str(path.relative_to(tmp_path)) for path in found] == ["a.png", "b/1.jpg", "b/2.PNG"]
    (tmp_path / "b" / "up").symlink_to("..")
    (tmp_path / "c").symlink_to("b", target_is_directory=True)
    (tmp_path / "d.png").symlink_to("gone")
    assert list(find_files([tmp_path], (".png", ".jpg"))) == [*found, tmp_path / "d.png"]
    assert list(find_files([tmp_path / "c"], (".jpg",))) == [tmp_path / "c" / "1.jpg"]
    with pytest.raises(ValueError, match=r"has no files of the kinds \.npz"):
        list(find_files([tmp_path], (".npz",)))
