"""torch finds a folder for what it compiles, whoever runs it; a folder that works is left alone."""

import os
import pwd
from pathlib import Path

import pytest

from util.cache_folder import COMPILED, OPERATORS, settle_cache_folder

NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME", COMPILED, OPERATORS)


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """Without a user's name in it; temporary files go to `tmp_path`."""
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def no_entry(monkeypatch):
    def fail(number):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", fail)


def test_where_torch_finds_one_nothing_changes(monkeypatch, tmp_path):
    monkeypatch.setenv("USER", "somebody")
    settle_cache_folder()
    assert COMPILED not in os.environ
    monkeypatch.setenv(COMPILED, str(tmp_path / "own" / "folder"))
    settle_cache_folder()
    assert os.environ[COMPILED] == str(tmp_path / "own" / "folder")
    assert OPERATORS not in os.environ


def test_a_user_without_a_name_gets_folders_by_number(no_entry, tmp_path):
    settle_cache_folder()
    folder = tmp_path / f"torchinductor_{os.getuid()}"
    assert os.environ[COMPILED] == str(folder)
    assert os.environ[OPERATORS] == str(folder / "extensions")


def test_a_user_without_a_home_gets_no_folder_of_that_name(no_entry, monkeypatch, tmp_path):
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.delenv("HOME", raising=False)
    settle_cache_folder()
    assert COMPILED not in os.environ
    assert Path(os.environ[OPERATORS]).is_relative_to(tmp_path)


def test_a_folder_that_cannot_be_made_is_replaced(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv(COMPILED, str(tmp_path / "file" / "cache"))
    settle_cache_folder()
    assert os.environ[COMPILED] == str(tmp_path / f"torchinductor_{os.getuid()}")
