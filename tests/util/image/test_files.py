import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.image_files import write_image_folder
from util.image.files import READERS, find_image_files, to_uint8


@pytest.fixture
def train_folder(tmp_path):
    return write_image_folder(tmp_path, classes=3, train=4) / "train"


@pytest.mark.parametrize("reader", READERS)
def test_every_file_comes_with_the_label_of_its_folder(train_folder, reader):
    files, class_names = find_image_files(train_folder, reader=reader)
    assert class_names == ("class_00", "class_01", "class_02")
    assert len(files) == 12
    for index in range(len(files)):
        image, label = files[index]
        path = files.path(index)
        assert path.parent.name == class_names[label]
        expected = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
        assert torch.equal(to_uint8(image), expected)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "gone"])
def test_a_damaged_file_is_named(train_folder, reader, damage):
    files, _ = find_image_files(train_folder, reader=reader)
    path = files.path(5)
    content = path.read_bytes()
    damaged = {"truncated": content[: len(content) // 3], "text": b"<html>404</html>", "empty": b""}
    path.unlink()
    if damage != "gone":
        path.write_bytes(damaged[damage])
    with pytest.raises(ValueError, match=f"{path} cannot be read as an image") as caught:
        files[5]
    assert "\n" not in str(caught.value)
    assert files[4][1] == 1


def test_a_part_has_its_own_order_and_transform(train_folder):
    files, _ = find_image_files(train_folder, reader="torchvision")
    part = files.part([7, 2], lambda image: tuple(image.shape))
    assert [part.path(i) for i in range(2)] == [files.path(7), files.path(2)]
    assert part[0] == (tuple(files[7][0].shape), 1)
