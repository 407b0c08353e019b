"""A path that is not quite the data set's folder names the right one."""

import pytest

from util.data_path import refuse_wrong_path


@pytest.fixture
def place(tmp_path):
    (tmp_path / "data" / "set" / "raw").mkdir(parents=True)
    (tmp_path / "data" / ".incomplete" / "other").mkdir(parents=True)
    (tmp_path / "data" / "set.tar.gz").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "wanted", "said"),
    [
        ("data/set", ("set",), "does not hold set, but {place}/data does: give that"),
        ("data/set/raw", ("set",), "does not hold set, but {place}/data does: give that"),
        ("data/set", ("set/raw",), "does not hold set/raw, but {place}/data does"),
        (".", ("set", "set.tar.gz"), "set or set.tar.gz, but {place}/data does: give that"),
        ("data/set.tar.gz", ("set",), "is a file: unpack it, and give the folder that holds set"),
    ],
)
def test_the_folder_near_by_is_named(place, path, wanted, said):
    with pytest.raises(ValueError) as caught:
        refuse_wrong_path(place / path, wanted)
    assert said.format(place=place) in str(caught.value)


def test_an_archive_that_is_unpacked_by_itself_names_its_folder(place):
    with pytest.raises(ValueError, match=f"unpacked by itself, give its folder {place}/data$"):
        refuse_wrong_path(place / "data" / "set.tar.gz", ("set.tar.gz",), unpacked=True)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [("data", ("set",)), ("data/new", ("set",)), ("data", ("other",)), ("data/set", ("new",))],
)
def test_the_right_folder_and_new_ones_pass(place, path, wanted):
    refuse_wrong_path(place / path, wanted)
