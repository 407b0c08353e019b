"""A folder that cannot be written is known before it is needed, and nothing is made for that."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from util.new_folder import folder_problem, refuse_unusable


def test_a_folder_that_is_there_or_can_be_made_has_no_problem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, tmp_path / "new", tmp_path / "new" / "deep" / "folder"):
        assert folder_problem(folder) is folder_problem(folder.relative_to(tmp_path)) is None
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["file", "file/deep/folder"])
def test_a_file_in_the_way_is_named(name, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError) as refusal:
        refuse_unusable(tmp_path / name, "out")
    start = f"--out {tmp_path / name}: {tmp_path / 'file'} is a file; name another"
    assert str(refusal.value).startswith(start)


def test_a_link_to_nowhere_and_a_folder_that_takes_nothing_are_named(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to("nowhere")
    problem = folder_problem(tmp_path / "link" / "new")
    assert problem == f"{tmp_path / 'link'} is a link to nowhere, which does not exist"
    assert "written in /proc (No such file" in folder_problem(Path("/proc/runs"))

    def read_only(*, dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    problem = folder_problem(tmp_path / "new")
    assert problem == f"nothing can be written in {tmp_path} (Read-only file system)"
