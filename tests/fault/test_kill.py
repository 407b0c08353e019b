"""Runs that are killed, asked to stop, robbed of their folder, or started all at once."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fault import micro_run
from tests.fault.process import Child, disturbed, start
from tests.fault.trial import assert_ends, promise, watch_saves
from tests.support.system_calls import Watch, kill_after, kill_before
from util.file.history import NEWEST
from util.process.signals import STOP_SIGNALS

pytestmark = pytest.mark.own_process


@promise("undisturbed, twice: identical")
def test_undisturbed(runs, trial):
    runs.assert_resumes(runs.folder())


@promise("kill -9 at any moment, same command again: identical", full=25, quick=3)
def test_kill_at_any_moment(runs, choose, trial):
    workers = ("0", "2", "0", "0")[trial % 4]
    child, code = disturbed(
        lambda: runs.begin(runs.folder(), "--num_workers", workers),
        lambda child: child.send(signal.SIGKILL),
        longest=runs.seconds,
        choose=choose,
    )
    assert code == -signal.SIGKILL, child.text()
    runs.assert_resumes(child.log_path)


@promise("kill -9 inside a save, same command again: identical", full=25, quick=3)
def test_kill_in_save(runs, choose):
    """At a system call: before it, after it, or half-way through a write."""
    log_path = runs.folder()
    watch = Watch(choose.randrange(runs.calls), choose.choice((kill_before, kill_after)))

    def task() -> None:
        watch_saves(watch)
        runs.main(log_path)()

    assert_ends(start(task, log_path / "output"), -signal.SIGKILL)
    runs.assert_resumes(log_path)


@promise(
    "SIGINT, SIGTERM, SIGUSR1, SIGHUP: saved, exit code 128 + signal; resumed with other "
    "num_workers: identical",
    full=20,
    quick=4,
)
def test_stop_by_signal(runs, choose, trial):
    number = STOP_SIGNALS[trial % len(STOP_SIGNALS)]
    before, after = choose.choice((("0", "2"), ("2", "0"), ("0", "0")))
    child, code = disturbed(
        lambda: runs.begin_training("--num_workers", before),
        lambda child: child.send(number),
        longest=runs.seconds,
        choose=choose,
    )
    (folder,) = micro_run.run_folders(child.log_path)
    leaving = code == -number and "finished: " in child.text()
    assert leaving or code == 128 + number, child.text()
    assert leaving or (folder / NEWEST).exists()
    runs.assert_resumes(child.log_path, "--num_workers", after)


@promise("the signal twice: ends at once; resumed: identical", full=8, quick=1)
def test_stop_by_two_signals(runs, choose, trial):
    number = STOP_SIGNALS[trial % len(STOP_SIGNALS)]
    pause = choose.uniform(0, 0.02)

    def send_twice(child: Child) -> None:
        child.send(number)
        time.sleep(pause)
        child.send(number)

    longest = runs.seconds / 3
    child, code = disturbed(runs.begin_training, send_twice, longest=longest, choose=choose)
    # It had saved, or was leaving, when the second one came, or else:
    assert code in (128 + number, -number, 130), child.text()
    runs.assert_resumes(child.log_path)


@promise("run folder deleted: one sentence with its path, exit code 1", full=5, quick=1)
def test_delete_folder(runs, choose):
    moved = choose.random() < 0.5
    folders: list[Path] = []

    def delete(child: Child) -> None:
        (folder,) = micro_run.run_folders(child.log_path)
        folders.append(folder)
        if moved:
            folder.rename(child.log_path / "away")
            return
        while folder.exists():  # file by file, while the run makes new ones
            shutil.rmtree(folder, ignore_errors=True)

    longest = runs.seconds / 3
    child, code = disturbed(runs.begin_training, delete, longest=longest, choose=choose)
    assert code == 1 and "Traceback" not in child.text(), child.text()
    (error,) = micro_run.errors_in(child.text())
    assert str(folders[-1]) in error


@promise("eight times the same command at the same moment: a folder each, identical", [8], [3])
def test_start_together(runs, trial):
    log_path = runs.folder()
    command = [*runs.argv, "--log_path", str(log_path)]
    for child in released_together(partial(micro_run.main, command), log_path, trial):
        assert_ends(child)
    folders = micro_run.run_folders(log_path)
    assert len(folders) == trial
    for folder in folders:
        runs.assert_same(folder)


@promise(
    "eight times --resume auto at the same moment: one goes on, the others are refused", [8], [3]
)
def test_resume_together(runs, trial):
    child = runs.begin_training()
    child.wait_for("epoch 0")
    child.send(signal.SIGTERM)
    child.wait()
    log_path = child.log_path
    children = released_together(runs.main(log_path), log_path, trial)
    ended = [(child, child.wait()) for child in children]
    for child, code in ended:
        refused = code == 2 and "another process is training in" in child.text()
        assert code == 0 or refused, child.text()
    (folder,) = micro_run.run_folders(log_path)
    runs.assert_same(folder)


def released_together(main: Callable[[], object], log_path: Path, count: int) -> list[Child]:
    """Children that wait for one another before they begin."""
    gate, opener = os.pipe()

    def wait_and_run() -> None:
        os.close(opener)
        os.read(gate, 1)  # returns when the parent closes its end
        main()

    children = [start(wait_and_run, log_path / f"output-{number}") for number in range(count)]
    os.close(opener)
    os.close(gate)
    return children
