"""What operating systems leave beside data is told from data."""

import pytest

from util.entry import folders_below, is_data


@pytest.mark.parametrize(
    "name", ["cat", "cat/photo.jpg", "n01440764", "a.b/c d.JPEG", "__init__", "macosx", "thumbs"]
)
def test_data(name):
    assert is_data(name)


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "._photo.jpg", "cat/._photo.jpg", ".ipynb_checkpoints/photo.jpg", "Thumbs.db",
     "cat/THUMBS.DB", "desktop.ini", "__MACOSX/cat/photo.jpg", "@eaDir", "lost+found"],
)  # fmt: skip
def test_no_data(name):
    assert not is_data(name)


def test_links_are_followed_and_no_folder_is_entered_twice(tmp_path):
    for name in ("a/x/1", "a/.git/2", "b/._3", "b/3"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "4").touch()
    root = tmp_path / "root"
    for link, target in (("a/up", ".."), ("b/far", "../../far"), ("c", "a"), ("b/5", "gone")):
        (root / link).symlink_to(target)
    found = [(f.path[len(str(root)) :], f.files, f.is_met_again) for f in folders_below(root)]
    assert found == [
        ("", [], False), ("/a", [], False), ("/a/up", [], True), ("/a/x", ["1"], False),
        ("/b", ["3", "5"], False), ("/b/far", ["4"], False), ("/c", [], True),
    ]  # fmt: skip


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        list(folders_below(tmp_path / "none"))
