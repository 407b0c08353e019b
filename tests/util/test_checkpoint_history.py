"""Whatever happens while a checkpoint is saved, a good one can be found afterwards."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from util.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from util.checkpoint_history import list_checkpoints, load_newest, save_newest

SYSTEM_CALLS = ("open", "write", "fsync", "close", "replace", "link", "unlink")
ROOT = Path(__file__).parents[2]


def state_of(step):
    return {"step": step, "weight": torch.full((999,), float(step))}


def steps(folder):
    return [load_checkpoint(path)["step"] for path in list_checkpoints(folder)]


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


def damage(path):
    """Flip one bit, in the file of this name only (not in its hard links)."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept_in_order(tmp_path, keep):
    for step in range(6):
        assert save_newest(state_of(step), tmp_path, keep=keep) == tmp_path / "last.pt"
        assert steps(tmp_path) == list(range(step, max(step - keep, -1), -1))
    assert names(tmp_path) == ["last.pt", "last-1.pt", "last-2.pt"][:keep]
    assert len(os.listdir(tmp_path)) == keep


def test_a_smaller_keep_deletes_the_surplus(tmp_path):
    for step in range(12):
        save_newest(state_of(step), tmp_path, keep=12)
    assert steps(tmp_path) == list(range(11, -1, -1))  # last-10.pt is older than last-9.pt
    save_newest(state_of(12), tmp_path, keep=2)
    assert steps(tmp_path) == [12, 11]


def test_other_files_are_neither_listed_nor_touched(tmp_path):
    save_checkpoint(state_of(7), tmp_path / "best.pt")
    for name in ("last-0.pt", "last-01.pt", "last-1.pt.tmp", "my-last.pt", "last-x.pt"):
        (tmp_path / name).write_text(name)
    for step in range(3):
        save_newest(state_of(step), tmp_path)
    assert names(tmp_path) == ["last.pt", "last-1.pt"]
    assert len(os.listdir(tmp_path)) == 2 + 6
    assert list_checkpoints(tmp_path / "missing") == []


def test_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", refuse)
    for step in range(4):
        save_newest(state_of(step), tmp_path, keep=3, is_best=step == 2)
    assert steps(tmp_path) == [3, 2, 1]
    assert load_checkpoint(tmp_path / "best.pt")["step"] == 2
    assert (tmp_path / "best.pt").stat().st_nlink == 1


def refuse(*args):
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_the_best_is_written_once_and_shares_its_file_with_the_newest(tmp_path, monkeypatch):
    write, written = os.write, []
    monkeypatch.setattr(
        os, "write", lambda file, data: written.append(write(file, data)) or written[-1]
    )
    for step in range(4):
        written.clear()
        save_newest(state_of(step), tmp_path, is_best=step != 2)
        shared = os.path.samefile(tmp_path / "best.pt", tmp_path / "last.pt")
        assert shared is (step != 2)
        assert sum(written) == (tmp_path / "last.pt").stat().st_size
        assert load_checkpoint(tmp_path / "best.pt")["step"] == (step if step != 2 else 1)
        assert steps(tmp_path) == [step, step - 1][: step + 1]


@pytest.mark.parametrize("keep", [1, 2])
def test_damage_to_the_best_and_newest_leaves_a_checkpoint(tmp_path, keep):
    for step in (1, 2):
        save_newest(state_of(step), tmp_path, keep=keep, is_best=True)
    with open(tmp_path / "last.pt", "r+b") as file:
        file.write(bytes(64))
    others = [*list_checkpoints(tmp_path), tmp_path / "best.pt"]
    reports = []
    load_newest(others, reports.append)
    assert "last.pt" in reports[0]


def test_a_save_killed_before_its_rename_costs_no_older_checkpoint(tmp_path):
    for step in range(4):
        save_newest(state_of(step), tmp_path, keep=3)
    # What is there when the kill comes between the hard link and the rename:
    (tmp_path / "last-2.pt").rename(tmp_path / "last-3.pt")
    (tmp_path / "last-1.pt").rename(tmp_path / "last-2.pt")
    os.link(tmp_path / "last.pt", tmp_path / "last-1.pt")
    assert steps(tmp_path) == [3, 3, 2, 1]
    save_newest(state_of(4), tmp_path, keep=3)
    assert steps(tmp_path) == [4, 3, 2]


def test_keep_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got 0"):
        save_newest(state_of(0), tmp_path, keep=0)


# --- loading -----------------------------------------------------------------------------------


def test_a_bad_newest_file_is_reported_and_the_one_before_is_used(tmp_path):
    for step in range(3):
        save_newest(state_of(step), tmp_path, keep=3)
    damage(tmp_path / "last.pt")
    (tmp_path / "last-1.pt").write_bytes(b"")
    reports = []
    state, path = load_newest(list_checkpoints(tmp_path), reports.append)
    assert state["step"] == 0
    assert path == tmp_path / "last-2.pt"
    assert ["last.pt" in reports[0], "last-1.pt" in reports[1], len(reports)] == [True, True, 2]


def test_no_good_file_is_an_error_that_names_them(tmp_path):
    for step in range(2):
        save_newest(state_of(step), tmp_path)
    for path in list_checkpoints(tmp_path):
        damage(path)
    with pytest.raises(CheckpointError, match=r"last\.pt.*last-1\.pt"):
        load_newest(list_checkpoints(tmp_path), lambda sentence: None)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_newest([], lambda sentence: None)


# --- faults ------------------------------------------------------------------------------------


def prepare(folder, situation):
    """Fill `folder`; return the steps that may be the newest good one after a killed save."""
    saved, keep, bad_newest = situation
    for step in range(saved):
        save_newest(state_of(step), folder, keep=keep)
    if bad_newest:
        damage(folder / "last.pt")
    previous = saved - 1 - bad_newest
    return {previous, saved} if previous >= 0 else {saved, None}


def newest_good_step(folder):
    try:
        return load_newest(list_checkpoints(folder), lambda sentence: None)[0]["step"]
    except CheckpointError:
        return None


def killed_at_call(number, folder, state, **options):
    """Save in a child process that dies by SIGKILL at its n-th system call; False if it ended."""
    child = os.fork()
    if child == 0:
        calls = 0

        def deadly(call):
            def wrapper(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == number:
                    if call is write:
                        write(args[0], args[1][: len(args[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*args, **kwargs)

            return wrapper

        write = os.write
        for name in SYSTEM_CALLS:
            setattr(os, name, deadly(getattr(os, name)))
        try:
            save_newest(state, folder, **options)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


# (checkpoints saved before, how many are kept, the newest is damaged)
SITUATIONS = [(0, 2, 0), (1, 2, 0), (4, 1, 0), (4, 2, 0), (4, 3, 0), (2, 2, 1), (4, 3, 1)]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_kill_9_before_every_system_call(tmp_path, situation):
    saved, keep, _ = situation
    number, outcomes = 0, set()
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        allowed = prepare(folder, situation)
        killed = killed_at_call(number, folder, state_of(saved), keep=keep)
        outcome = newest_good_step(folder)
        assert outcome in allowed, number
        outcomes.add(outcome)
        # The next save works as if nothing had happened and cleans up.
        save_newest(state_of(100), folder, keep=keep)
        assert newest_good_step(folder) == 100
        assert len(os.listdir(folder)) <= keep
        if not killed:
            break
    assert number > 9
    assert outcomes == allowed  # some kills came before the new file was in place, some after


def best_of(folder):
    """The step that best.pt holds, whole; 0 if there is none."""
    path = folder / "best.pt"
    return load_checkpoint(path)["step"] if path.exists() else 0


@pytest.mark.parametrize("linkable", [True, False])
@pytest.mark.parametrize("keep", [1, 2])
def test_after_any_kill_the_best_is_whole_and_no_older_than_the_state_believes(
    tmp_path, monkeypatch, keep, linkable
):
    """Steps 1 and 3 are the best so far; the save of the latter is killed, then the run goes on."""
    if not linkable:
        monkeypatch.setattr(os, "link", refuse)
    number, before = 0, set()
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        for step in (1, 2):
            save_newest(state_of(step) | {"best": 1}, folder, keep=keep, is_best=step == 1)
        killed = killed_at_call(number, folder, state_of(3) | {"best": 3}, keep=keep, is_best=True)
        resumed, _ = load_newest(list_checkpoints(folder), lambda sentence: None)
        assert resumed["step"] in (2, 3) and best_of(folder) >= resumed["best"], number
        before.add((resumed["step"], best_of(folder)))
        # Going on, with a checkpoint within the repeated epoch, whatever the kill has left behind.
        best = best_of(folder)
        save_newest(state_of(2.5) | {"best": resumed["best"]}, folder, keep=keep)
        assert best_of(folder) == best, number
        save_newest(state_of(3) | {"best": 3}, folder, keep=keep, is_best=True)
        save_newest(state_of(4) | {"best": 3}, folder, keep=keep)
        assert (newest_good_step(folder), best_of(folder)) == (4, 3), number
        assert len(os.listdir(folder)) == keep + 1, number
        if not killed:
            break
    assert number > 9
    assert before == {(2, 1), (2, 3), (3, 3)}  # before both, in between and after both


@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_error_of_every_system_call(tmp_path, monkeypatch, situation):
    saved, keep, _ = situation

    def failing(call, counter, number):
        def wrapper(*args, **kwargs):
            counter[0] += 1
            if counter[0] == number:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return call(*args, **kwargs)

        return wrapper

    number, failures = 0, 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        allowed = prepare(folder, situation)
        counter = [0]
        with monkeypatch.context() as patch:
            for name in SYSTEM_CALLS:
                patch.setattr(os, name, failing(getattr(os, name), counter, number))
            try:
                save_newest(state_of(saved), folder, keep=keep)
            except OSError as error:
                failures += 1
                assert str(folder / "last.pt") in str(error)
                assert "bytes" in str(error)
        assert newest_good_step(folder) in allowed, number
        assert not list(folder.glob("*.tmp"))
        if counter[0] < number:
            break
    assert failures >= 5


def test_kill_9_at_random_moments(tmp_path):
    choose = random.Random(3)
    save_newest(state_of(0), tmp_path, keep=2)
    newest, listed, patience = 0, 1, 1.0
    for step in range(1, 26):
        child = os.fork()
        if child == 0:
            try:
                for number in range(10**9):
                    save_newest(state_of(1000 * step + number), tmp_path, keep=2)
            finally:
                os._exit(1)
        time.sleep(patience * (0.01 + 0.02 * choose.random()))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
        # Nothing that was once the newest is lost; on a busy machine a child may save nothing.
        before, newest = newest, newest_good_step(tmp_path)
        assert newest >= before
        patience = min(2 * patience, 100) if newest == before else patience
        # A child that ended no save adds a file to what it found; one that did left `keep` and one.
        found, listed = listed, len(list_checkpoints(tmp_path))
        assert listed <= max(found, 2) + 1
    assert newest >= 1000
    save_newest(state_of(10**6), tmp_path, keep=2)
    assert names(tmp_path) == ["last.pt", "last-1.pt"]


def test_saves_that_are_killed_before_they_delete_leave_a_file_each(tmp_path, monkeypatch):
    for step in range(2):
        save_newest(state_of(step), tmp_path, keep=2)
    with monkeypatch.context() as patch:
        patch.setattr("util.checkpoint_history._delete_surplus", lambda folder, keep: None)
        for step in range(2, 5):
            save_newest(state_of(step), tmp_path, keep=2)
            assert steps(tmp_path) == list(range(step, -1, -1))
    save_newest(state_of(5), tmp_path, keep=2)
    assert steps(tmp_path) == [5, 4]


def test_a_folder_deleted_during_the_run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    save_newest(state_of(0), folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match=r"run/last\.pt \([\d,]+ bytes\)"):
        save_newest(state_of(1), folder)
    assert not folder.exists()


FULL_DISK = """
import subprocess, sys
from pathlib import Path
import torch
from util.checkpoint_history import list_checkpoints, load_newest, save_newest

folder = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
good = bad = 0
for step in range(1, 9):
    try:
        save_newest({"step": step, "weight": torch.zeros(step * 20_000)}, folder, keep=2)
        good = step
    except OSError as error:
        bad += 1
        assert "No space left on device" in str(error) and "last.pt" in str(error), error
        assert not list(folder.glob("*.tmp"))
    state, path = load_newest(list_checkpoints(folder), lambda sentence: sys.exit(sentence))
    assert state["step"] == good and path.name == "last.pt", (state["step"], good)
assert good >= 2 and bad >= 2, (good, bad)
"""


def test_a_disk_of_one_megabyte(tmp_path):
    private_mounts = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*private_mounts, "true"]).returncode:
        pytest.skip("this system does not let a process mount a file system of its own")
    subprocess.run(
        [*private_mounts, sys.executable, "-c", FULL_DISK, str(tmp_path)], cwd=ROOT, check=True
    )
