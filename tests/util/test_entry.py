"""What operating systems leave beside data is told from data."""

import pytest

from util.entry import is_data


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
