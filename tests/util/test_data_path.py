"""A path that is not quite the data set's folder names the right one."""

import pytest

from util.data_path import refuse_folder_near, refuse_no_folder


@pytest.fixture
def place(tmp_path):
    (tmp_path / "data" / "set" / "raw").mkdir(parents=True)
    (tmp_path / "data" / ".incomplete" / "other").mkdir(parents=True)
    (tmp_path / "data" / "set.tar.gz").write_bytes(b"")
    (tmp_path / "link").symlink_to("unmounted/disk")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "wanted", "said"),
    [
        ("data/set", ("set",), "does not hold set, but {place}/data does: give that"),
        ("data/set/raw", ("set",), "does not hold set, but {place}/data does: give that"),
        ("data/set", ("set/raw",), "does not hold set/raw, but {place}/data does"),
        (".", ("set", "set.tar.gz"), "set or set.tar.gz, but {place}/data does: give that"),
    ],
)
def test_the_folder_near_by_is_named(place, path, wanted, said):
    with pytest.raises(ValueError) as caught:
        refuse_folder_near(place / path, wanted)
    assert said.format(place=place) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("link", "link is a link to unmounted/disk, which is not there"),
        ("data/set.tar.gz", "is a file: it is unpacked by itself, give its folder {place}/data"),
        ("data/other.zip", "is a file: unpack it, and give the folder that holds set.tar.gz"),
        ("data/notes.txt", "is a file: give the folder that holds set.tar.gz"),
    ],
)
def test_what_is_no_folder_says_what_it_is(place, path, said):
    for name in ("other.zip", "notes.txt"):
        (place / "data" / name).write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        refuse_no_folder(place / path, ("set.tar.gz",), unpacked=True)
    assert said.format(place=place) in str(caught.value)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("data", ("set",)), ("data/new", ("set",)), ("data", ("other",)), ("data/set", ("new",))],
)
def test_the_right_folder_and_new_ones_pass(place, path, wanted):
    refuse_no_folder(place / path, wanted)
    refuse_folder_near(place / path, wanted)
