"""torch finds a folder for what it compiles, whoever runs it; a folder that works is left alone."""

import getpass
import os
import pwd
import tempfile

import pytest

from util.file.cache_folder import COMPILED, IN_MEMORY, OPERATORS, settle_cache_folder

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME", "TMPDIR", COMPILED, OPERATORS)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Without a user's name in it; temporary files go to `tmp_path`."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_where_torch_finds_one_nothing_changes(monkeypatch, tmp_path):
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setenv("HOME", str(tmp_path))
    before = dict(os.environ)
    settle_cache_folder()
    assert dict(os.environ) == before
    monkeypatch.setenv(COMPILED, str(tmp_path / "own" / "folder"))
    settle_cache_folder()
    assert dict(os.environ) == {**before, COMPILED: str(tmp_path / "own" / "folder")}


def test_a_user_without_a_name_and_home_is_called_by_number(monkeypatch, tmp_path):
    """By everything that asks for the name, not for this folder alone."""

    def fail(number):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", fail)
    monkeypatch.delenv("HOME", raising=False)
    settle_cache_folder()
    assert getpass.getuser() == str(os.getuid())
    assert os.environ[OPERATORS] == str(tmp_path / f"torch_extensions_{os.getuid()}")


@pytest.mark.parametrize("name", ["", "file/cache"])
def test_a_folder_that_cannot_be_made_is_not_asked_for(name, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(COMPILED, name and str(tmp_path / name))
    settle_cache_folder()
    assert COMPILED not in os.environ


def test_without_room_for_temporary_files_they_go_to_memory(monkeypatch, tmp_path):
    def fail():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "gettempdir", fail)
    settle_cache_folder()
    assert os.environ["TMPDIR"] == IN_MEMORY
