"""util.file.alone: one process at a time, and nothing left behind."""

import fcntl
import multiprocessing
import shutil
import time

import pytest

from util.file import alone
from util.file.alone import alone_in


def count_up(folder, rounds):
    """Read, wait and write a number, which goes wrong if two do so at once."""
    for _ in range(rounds):
        with alone_in(folder, lambda line: None):
            number = int((folder / "number").read_text())
            time.sleep(0.002)
            (folder / "number").write_text(str(number + 1))


@pytest.mark.parametrize("moment", ["opened", "looked at"])
def test_a_lock_that_is_removed_meanwhile_is_made_anew(tmp_path, monkeypatch, moment):
    def lose(*_):
        monkeypatch.undo()
        shutil.rmtree(tmp_path / "new")
        return open(*_) if moment == "opened" else flock(*_)

    flock = fcntl.flock
    if moment == "opened":
        monkeypatch.setattr(alone, "open", lose, raising=False)
    else:
        monkeypatch.setattr(fcntl, "flock", lose)
    with alone_in(tmp_path / "new", lambda line: None):
        assert (tmp_path / "new" / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_processes_take_turns_although_the_lock_is_removed(tmp_path):
    (tmp_path / "number").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=count_up, args=(tmp_path, 30)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "number").read_text() == "90"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_a_folder_that_was_made_and_stayed_empty_is_removed(tmp_path):
    def fail_in(folder, made=()):
        with pytest.raises(ValueError, match="wrong"), alone_in(folder, lambda line: None):
            for name in made:
                (folder / name).touch()
            raise ValueError("wrong")

    fail_in(tmp_path)
    fail_in(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    fail_in(tmp_path / "new", made=["result"])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["result"]
