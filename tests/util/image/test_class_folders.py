"""What counts as a class and a sample, and which trees are no set of classes."""

import os

import pytest
from torchvision.datasets import ImageFolder

from util.image.class_folders import find_in_class_folders


def make(root, *names):
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(b"")
    return root


def test_what_systems_leave_beside_data_is_neither_class_nor_sample(tmp_path):
    make(tmp_path, "cat/b.JPEG", "cat/A.Png", "cat/deep/er/c.gif", "dog/1.tiff", "dog/notes.txt")
    make(tmp_path, "cat/._b.JPEG", "cat/@eaDir/b.jpg", "__MACOSX/cat/b.jpg", "list.csv", ".hidden/")
    names, labels, classes = find_in_class_folders(tmp_path)
    assert classes == ("cat", "dog")
    assert names.tolist() == [b"cat/A.Png", b"cat/b.JPEG", b"cat/deep/er/c.gif", b"dog/1.tiff"]
    assert labels.tolist() == [0, 0, 0, 1]


def test_the_order_is_that_of_torchvision(tmp_path):
    names = ["b/2.jpg", "b/10.jpg", "b/a/z.jpg", "b/a-/y.jpg", "b/a/b/x.jpg", "B/1.jpg", "b-/1.jpg"]
    root = make(tmp_path / "root", *names)
    (root / "a").symlink_to(make(tmp_path / "far", "1.jpg"))
    names, labels, classes = find_in_class_folders(root)
    theirs = ImageFolder(root)
    assert list(classes) == theirs.classes
    found = [str(root / os.fsdecode(name)) for name in names]
    assert list(zip(found, labels.tolist(), strict=True)) == theirs.samples


@pytest.mark.parametrize(
    ("link", "target", "said"),
    [
        ("cat/up", "..", "cat/up is a link to .*, whose images would be there twice"),
        ("cat/kitten", "../dog", "dog is a link to .*/cat/kitten, whose"),
        ("emu", "gone", "links to what is not there, 'emu'"),
    ],
)
def test_links_never_add_images_twice_nor_lose_a_class(tmp_path, link, target, said):
    make(tmp_path, "cat/1.jpg", "dog/1.jpg")
    (tmp_path / link).symlink_to(target)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        find_in_class_folders(tmp_path)


PETS = [f"images/{name}/1.jpg" for name in ("cat", "dog")]
PARTS = [f"{part}/{name}/1.jpg" for part in ("one", "two") for name in ("cat", "dog", "emu")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["1.jpg", "2.jpg"], r"no class folders \(2 files and no folders\).*sort the images"),
        ([".hidden/1.jpg"], r"no class folders \(0 files"),
        (["cat/1.jpg", "dog/.1.jpg"], "2 class folders, without any image in 'dog'"),
        (["a/", "b/", "c/", "d/x.txt", "e/1.jpg"], "image in 'a', 'b', 'c' and 1 more"),
        (PETS, "holds 'images', and the folders inside are 'cat', 'dog': one level too deep"),
        (PARTS, "holds 'one', 'two', and the folders inside are 'cat', 'dog', 'emu': one level"),
        (["cat/1.jpg", "cat/2.jpg"], "one class folder, 'cat', with 2 images: expected at least"),
        (["x/images/cat/1.jpg"], "one class folder, 'x', with 1 images in the folder 'images'"),
    ],
)
def test_a_tree_that_is_no_set_of_classes_says_what_it_is(tmp_path, names, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said) as caught:
        find_in_class_folders(make(tmp_path, *names))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["n01/images/1.jpg", "n02/images/1.jpg"],  # as Tiny ImageNet
        ["pet/cat/1.jpg", "pet/dog/1.jpg", "bird/owl/1.jpg", "bird/tit/1.jpg"],
        ["cat/left/1.jpg", "cat/right/1.jpg", "dog/left/1.jpg", "dog/right/1.jpg"],
        [*PARTS, "one/0.jpg"],
    ],
)
def test_images_may_lie_deeper_in_their_class(tmp_path, names):
    found, _, classes = find_in_class_folders(make(tmp_path, *names))
    assert len(found) == len(names) and len(classes) == 2
