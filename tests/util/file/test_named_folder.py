"""A folder that users name is told from what is near by, and data from what systems leave there."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from util.file.named_folder import (
    folder_problem,
    folders_below,
    is_data,
    refuse_folder_near,
    refuse_no_folder,
    refuse_unusable,
)

DATA = ["cat", "cat/photo.jpg", "n01440764", "a.b/c d.JPEG", "__init__", "macosx", "thumbs"]
HIDDEN = [".DS_Store", "._photo.jpg", "cat/._photo.jpg", ".ipynb_checkpoints/photo.jpg"]
SYSTEM = ["Thumbs.db", "cat/THUMBS.DB", "desktop.ini", "__MACOSX/cat/1.jpg", "@eaDir", "lost+found"]


def test_data_is_told_from_what_systems_leave_beside():
    assert [name for name in DATA + HIDDEN + SYSTEM if is_data(name)] == DATA


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path):
    root = tmp_path / "root"
    for name in ("root/0", "root/a/x/1", "root/a/.git/2", "root/b/._3", "root/b/3", "far/4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for link, target in (("a/up", ".."), ("b/far", "../../far"), ("c", "a"), ("b/5", "gone")):
        (root / link).symlink_to(target)
    folders = list(folders_below(root))
    found = {os.path.relpath(folder.path, root): folder.files for folder in folders}
    assert list(found) == [".", "a", "a/up", "a/x", "b", "b/far", "c"]
    assert {name: files for name, files in found.items() if files} == {
        ".": ["0"],
        "a/x": ["1"],
        "b": ["3", "5"],
        "b/far": ["4"],
    }
    again = {os.path.relpath(f.path, root): f.first for f in folders if f.path != f.first}
    assert again == {"a/up": str(root), "c": str(root / "a")}


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(folders_below(tmp_path / "none"))


@pytest.fixture
def place(tmp_path):
    (tmp_path / "data" / "set" / "raw").mkdir(parents=True)
    (tmp_path / "data" / ".incomplete" / "other").mkdir(parents=True)
    for name in ("set.tar.gz", "other.zip", "notes.txt"):
        (tmp_path / "data" / name).touch()
    (tmp_path / "link").symlink_to("unmounted/disk")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "wanted", "said"),
    [
        ("data/set", ("set",), "does not hold set, but {place}/data does: give that"),
        ("data/set/raw", ("set",), "does not hold set, but {place}/data does: give that"),
        ("data/set", ("set/raw",), "does not hold set/raw, but {place}/data does"),
        (".", ("set", "set.tar.gz"), "set or set.tar.gz, but {place}/data does: give that"),
        ("link", ("set.tar.gz",), "link is a link to unmounted/disk, which is not there"),
        ("data/set.tar.gz", ("set.tar.gz",), "it is unpacked by itself, give its folder {place}"),
        ("data/other.zip", ("set",), "is a file: unpack it, and give the folder that holds set"),
        ("data/notes.txt", ("set",), "is a file: give the folder that holds set"),
    ],
)
def test_a_path_that_is_not_the_folder_says_what_it_is_or_names_the_folder(
    place, path, wanted, said
):
    with pytest.raises(ValueError) as caught:
        refuse_no_folder(place / path, wanted, unpacked=True)
        refuse_folder_near(place / path, wanted)
    assert said.format(place=place) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("data", ("set",)), ("data/new", ("set",)), ("data", ("other",)), ("data/set", ("new",))],
)
def test_the_right_folder_and_new_ones_pass(place, path, wanted):
    refuse_no_folder(place / path, wanted)
    refuse_folder_near(place / path, wanted)


def test_a_folder_that_is_there_or_can_be_made_has_no_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "deep" / "folder"):
        assert folder_problem(folder) is folder_problem(folder.relative_to(tmp_path)) is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("data/notes.txt", "--out {place}/data/notes.txt: {place}/data/notes.txt is a file; name"),
        ("data/notes.txt/deep/folder", "folder: {place}/data/notes.txt is a file; name another"),
        ("link/new", "{place}/link is a link to unmounted/disk, which does not exist"),
        (Path("/proc/runs"), "nothing can be written in /proc (No such file"),
        ("read only/new", "written in {place}/read only (Read-only file system); name another"),
    ],
)
def test_a_folder_that_takes_nothing_says_why(place, path, said, monkeypatch):
    def refuse(*, dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    if "read only" in str(path):
        (place / "read only").mkdir()
        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError) as refusal:
        refuse_unusable(place / path, "out")
    assert said.format(place=place) in str(refusal.value)
