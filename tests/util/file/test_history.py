"""Whatever happens while a checkpoint is saved, a good one can be found afterwards."""

import errno
import os
import signal
from itertools import count

import pytest
import torch

from tests.support.damage import damage_file
from tests.support.system_calls import Watch, kill_before, refuse
from util.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from util.file.history import list_checkpoints, load_newest, save_newest


def state_of(step):
    return {"step": step, "weight": torch.full((999,), float(step))}


def save_steps(folder, *numbers, **options):
    for step in numbers:
        save_newest(state_of(step), folder, **options)


def steps(folder):
    return [load_checkpoint(path)["step"] for path in list_checkpoints(folder)]


def names(folder):
    return [path.name for path in list_checkpoints(folder)]


@pytest.mark.parametrize("linkable", [True, False])
@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept_in_order(tmp_path, monkeypatch, keep, linkable):
    if not linkable:
        monkeypatch.setattr(os, "link", no_links)
    for step in range(6):
        assert save_newest(state_of(step), tmp_path, keep=keep) == tmp_path / "last.pt"
        assert steps(tmp_path) == list(range(step, max(step - keep, -1), -1))
    assert names(tmp_path) == ["last.pt", "last-1.pt", "last-2.pt"][:keep]
    assert len(os.listdir(tmp_path)) == keep


def test_a_smaller_keep_deletes_the_surplus(tmp_path):
    save_steps(tmp_path, *range(12), keep=12)
    assert steps(tmp_path) == list(range(11, -1, -1))  # last-10.pt is older than last-9.pt
    save_steps(tmp_path, 12, keep=2)
    assert steps(tmp_path) == [12, 11]


def test_other_files_are_neither_listed_nor_touched(tmp_path):
    save_checkpoint(state_of(7), tmp_path / "best.pt")
    for name in ("last-0.pt", "last-01.pt", "last-1.pt.tmp", "my-last.pt", "last-x.pt"):
        (tmp_path / name).write_text(name)
    save_steps(tmp_path, 0, 1, 2)
    assert names(tmp_path) == ["last.pt", "last-1.pt"]
    assert len(os.listdir(tmp_path)) == 2 + 6
    assert list_checkpoints(tmp_path / "missing") == []


def no_links(*args):
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
    save_steps(tmp_path, 1, 2, keep=keep, is_best=True)
    with open(tmp_path / "last.pt", "r+b") as file:
        file.write(bytes(64))
    others = [*list_checkpoints(tmp_path), tmp_path / "best.pt"]
    reports = []
    load_newest(others, reports.append)
    assert "last.pt" in reports[0]


def test_a_save_killed_before_its_rename_costs_no_older_checkpoint(tmp_path):
    save_steps(tmp_path, 0, 1, 2, 3, keep=3)
    # What is there when the kill comes between the hard link and the rename:
    (tmp_path / "last-2.pt").rename(tmp_path / "last-3.pt")
    (tmp_path / "last-1.pt").rename(tmp_path / "last-2.pt")
    os.link(tmp_path / "last.pt", tmp_path / "last-1.pt")
    assert steps(tmp_path) == [3, 3, 2, 1]
    save_steps(tmp_path, 4, keep=3)
    assert steps(tmp_path) == [4, 3, 2]


def test_keep_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got 0"):
        save_steps(tmp_path, 0, keep=0)


def test_a_bad_newest_file_is_reported_and_the_one_before_is_used(tmp_path):
    save_steps(tmp_path, 0, 1, 2, keep=3)
    damage_file(tmp_path / "last.pt")
    (tmp_path / "last-1.pt").write_bytes(b"")
    reports = []
    state, path = load_newest(list_checkpoints(tmp_path), reports.append)
    assert state["step"] == 0
    assert path == tmp_path / "last-2.pt"
    assert ["last.pt" in reports[0], "last-1.pt" in reports[1], len(reports)] == [True, True, 2]


def test_no_good_file_is_an_error_that_names_them(tmp_path):
    save_steps(tmp_path, 0, 1)
    for path in list_checkpoints(tmp_path):
        damage_file(path)
    with pytest.raises(CheckpointError, match=r"last\.pt.*last-1\.pt"):
        load_newest(list_checkpoints(tmp_path), lambda sentence: None)
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_newest([], lambda sentence: None)


def prepare(folder, situation):
    """Fill `folder`; return the steps that may be the newest good one after a killed save."""
    saved, keep, bad_newest = situation
    save_steps(folder, *range(saved), keep=keep)
    if bad_newest:
        damage_file(folder / "last.pt")
    previous = saved - 1 - bad_newest
    return {previous, saved} if previous >= 0 else {saved, None}


def newest_good_step(folder):
    try:
        return load_newest(list_checkpoints(folder), lambda sentence: None)[0]["step"]
    except CheckpointError:
        return None


def killed_at_call(number, state, folder, **options):
    """Save in a child process that dies by SIGKILL at its n-th system call; False if it ended."""
    child = os.fork()
    if child == 0:
        os.setpgrp()
        try:
            with Watch(number, kill_before):
                save_newest(state, folder, **options)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def at_every_call(tmp_path, trial):
    """trial(a new folder, n) for n = 0, 1, ... as long as it says that a save was disturbed."""
    for number in count():
        (tmp_path / str(number)).mkdir()
        if not trial(tmp_path / str(number), number):
            assert number > 9
            break


# (checkpoints saved before, how many are kept, the newest is damaged)
SITUATIONS = [(0, 2, 0), (1, 2, 0), (4, 1, 0), (4, 2, 0), (4, 3, 0), (2, 2, 1), (4, 3, 1)]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_kill_9_before_every_system_call(tmp_path, situation):
    saved, keep, _ = situation
    outcomes = set()

    def trial(folder, number):
        allowed = prepare(folder, situation)
        killed = killed_at_call(number, state_of(saved), folder, keep=keep)
        outcomes.add(newest_good_step(folder))
        # Some kills come before the new file is in place, some after.
        assert outcomes == allowed if not killed else outcomes <= allowed, number
        # The next save works as if nothing had happened and cleans up.
        save_steps(folder, 100, keep=keep)
        assert newest_good_step(folder) == 100
        assert len(os.listdir(folder)) <= keep
        return killed

    at_every_call(tmp_path, trial)


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
        monkeypatch.setattr(os, "link", no_links)
    before = set()

    def trial(folder, number):
        def save(step, best):
            state = state_of(step) | {"best": best}
            save_newest(state, folder, keep=keep, is_best=step == best)

        save(1, best=1)
        save(2, best=1)
        state = state_of(3) | {"best": 3}
        killed = killed_at_call(number, state, folder, keep=keep, is_best=True)
        resumed, _ = load_newest(list_checkpoints(folder), lambda sentence: None)
        assert resumed["step"] in (2, 3) and best_of(folder) >= resumed["best"], number
        before.add((resumed["step"], best_of(folder)))
        # Going on, with a checkpoint within the repeated epoch, whatever the kill has left behind.
        best = best_of(folder)
        save(2.5, best=resumed["best"])
        assert best_of(folder) == best, number
        save(3, best=3)
        save(4, best=3)
        assert (newest_good_step(folder), best_of(folder)) == (4, 3), number
        assert len(os.listdir(folder)) == keep + 1, number
        return killed

    at_every_call(tmp_path, trial)
    assert before == {(2, 1), (2, 3), (3, 3)}  # before both, in between and after both


@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_error_of_every_system_call(tmp_path, situation):
    saved, keep, _ = situation
    failures = []

    def trial(folder, number):
        allowed, watch = prepare(folder, situation), Watch(number, refuse)
        try:
            with watch:
                save_steps(folder, saved, keep=keep)
        except OSError as error:
            failures.append(error)
            assert str(folder / "last.pt") in str(error) and "bytes" in str(error)
        assert newest_good_step(folder) in allowed, number
        assert not list(folder.glob("*.tmp"))
        return watch.calls > number

    at_every_call(tmp_path, trial)
    assert len(failures) >= 5
