"""Pictures on the disk are those of the data set, and a folder of them can be trained on."""

import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from experiment import sample_pictures
from experiment.sample_pictures import main
from tests.support.data_files import write_mnist_family
from tests.support.image_files import write_tree
from util.data import load_dataset
from util.image.decoded import read_pictures
from util.image.picture_folder import PictureOptions


def shown_commands():
    """The flags of every command in the docstring."""
    text = sample_pictures.__doc__.replace("\\\n", " ")
    start = "    python experiment/sample_pictures.py "
    return [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]


def test_the_commands_shown_write_what_they_say(tmp_path, monkeypatch, capsys):
    first, second = shown_commands()
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    written = main(shlex.split(first))
    assert [path.name for path in written] == [f"{digit}_0000.png" for digit in range(10)]
    test = load_dataset("Digits", ".").test
    for path in written:
        index = test.tensors[1].tolist().index(int(path.name[0]))
        assert np.array_equal(np.array(Image.open(path)), test[index][0][0].numpy())
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    assert len(main(shlex.split(second))) == 200
    assert capsys.readouterr().out.endswith("200 pictures of 2 classes in pictures\n")
    images = read_pictures(tmp_path / "b" / "pictures", PictureOptions(), report=print)
    assert images.class_names == ("3", "8") and images.train.tensors[0].shape[1:] == (1, 32, 32)
    train, labels = load_dataset("Digits", ".").train.source.tensors
    for label, digit in enumerate((3, 8)):
        wanted = {bytes(picture.flatten()) for picture in train[labels == digit][:100].numpy()}
        parts = [part.tensors[0][part.tensors[1] == label] for part in images[:2]]
        assert {bytes(picture.flatten()) for picture in torch.cat(parts).numpy()} == wanted


def test_folders_and_names_that_are_no_file_names(tmp_path):
    write_mnist_family(tmp_path / "FashionMNIST")
    flags = ["--dataset", "FashionMNIST", "--data_path", tmp_path, "--output", tmp_path / "new"]
    written = main([*flags, "--classes", "T-shirt/top", "--count", 99])
    assert [path.name for path in written] == ["T-shirt-top_0000.png", "T-shirt-top_0001.png"]
    folder = write_tree(tmp_path / "tree")
    flags = ["--dataset", "Folder", "--data_path", folder, "--image_size", 16]
    (picture,) = main([*flags, "--output", tmp_path / "x", "--classes", "class_01", "class_01"])
    assert Image.open(picture).size == (16, 16)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--classes", "3", "x"], "--classes 'x': the classes of Digits are '0', '1', "),
        (["--output", "full"], "--output full is not empty: name another folder"),
        (["--output", "full/file"], "--output full/file: .*file is a file; name another folder"),
        (["--count", "0"], "argument --count: expected a whole number from 1"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, flags, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SystemExit) as end:
        main(["--dataset", "Digits", "--output", "new", *flags])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: {said}", line)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]
