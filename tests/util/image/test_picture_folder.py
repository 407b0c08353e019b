"""Which pictures of a folder are for training and which for the test, and what is refused."""

import shutil

import numpy as np
import pytest

from tests.support.image_files import write_image_folder, write_tree
from util.image.picture_folder import PictureOptions, find_own_pictures

PLAIN = PictureOptions()


def paths(files):
    return [files.path(index) for index in range(len(files))]


@pytest.mark.parametrize("test", ["test", "val"])
def test_two_parts_are_taken_as_they_are(tmp_path, test):
    folder = write_image_folder(tmp_path, classes=3, train=4, val=2)
    (folder / "val").rename(folder / test)
    found = find_own_pictures(folder, PLAIN._replace(test_fraction=0.5))
    assert [len(part) for part in found[:2]] == [12, 6]
    assert {path.parents[1].name for path in paths(found.test)} == {test}
    assert found.class_names == ("class_00", "class_01", "class_02")


def test_the_test_is_in_test_where_there_is_val_too(tmp_path):
    folder = write_image_folder(tmp_path, classes=2, train=1)
    shutil.copytree(folder / "train", folder / "test")
    assert {path.parents[1].name for path in paths(find_own_pictures(folder, PLAIN).test)} == {
        "test"
    }


def test_a_tree_is_split_by_class_and_a_seed_of_its_own(tmp_path):
    folder = write_tree(tmp_path, classes=3, count=10)
    found, again, other = (
        find_own_pictures(folder, PLAIN._replace(test_fraction=0.3, split_seed=seed))
        for seed in (0, 0, 1)
    )
    assert np.bincount(found.train.labels).tolist() == [7, 7, 7]
    assert np.bincount(found.test.labels).tolist() == [3, 3, 3]
    assert sorted(paths(found.train) + paths(found.test)) == sorted(folder.glob("*/*"))
    assert paths(found.test) == paths(again.test) != paths(other.test)
    for files in found[:2]:
        assert [f"class_{label:02}" for label in files.labels] == [
            p.parent.name for p in paths(files)
        ]


def empty(tmp_path):
    return tmp_path


def missing(tmp_path):
    return tmp_path / "nowhere"


def a_file(tmp_path):
    (tmp_path / "pets.zip").touch()
    return tmp_path / "pets.zip"


def one_class(tmp_path):
    return write_tree(tmp_path, classes=1)


def an_empty_class(tmp_path):
    (write_tree(tmp_path) / "dog").mkdir()
    return tmp_path


def a_lone_part(tmp_path):
    shutil.rmtree(write_image_folder(tmp_path) / "val")
    return tmp_path


def parts_of_other_names(tmp_path):
    folder = write_image_folder(tmp_path)
    (folder / "train").rename(folder / "Training")
    (folder / "val").rename(folder / "Test")
    return folder


def other_classes(tmp_path):
    folder = write_image_folder(tmp_path, classes=3)
    (folder / "val" / "class_01").rename(folder / "val" / "dog")
    return folder


def a_small_class(tmp_path):
    folder = write_tree(tmp_path)
    for path in sorted((folder / "class_01").iterdir())[4:]:
        path.unlink()
    return folder


REFUSED = [
    (missing, "nowhere is not there: give with --data_path a folder with train/CLASS/"),
    (a_file, "is a file: unpack it, and give the folder that holds train and test or a folder"),
    (empty, "has no class folders"),
    (one_class, "has one class folder, 'class_00', with 10 images: expected at least two classes"),
    (an_empty_class, "3 class folders, without any image in 'dog'"),
    (a_lone_part, "holds 'train': expected train and test .* its own folder, such as .*/train"),
    (parts_of_other_names, "holds 'Test', 'Training': expected train and test"),
    (other_classes, "train has 3 classes and .*val has 3, they differ in 'class_01'"),
    (a_small_class, "class 'class_01' has 4 pictures, of which --test_fraction 0.2 does not leave"),
]


@pytest.mark.parametrize(("make", "said"), REFUSED)
def test_what_cannot_be_learned_from_is_refused_in_a_sentence(tmp_path, make, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        find_own_pictures(make(tmp_path), PLAIN)
    assert "\n" not in str(caught.value)
