"""What the trials of the campaign share: how often they are made, and runs to disturb."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from experiment.train.recorder import Recorder
from tests.fault import micro_run
from tests.fault.process import CRASHED, Child, start
from tests.support.system_calls import Watch

WORKERS = ("--num_workers", "2")
ONCE = ("",)


def promise(
    text: str, full: int | Sequence[Any] = ONCE, quick: int | Sequence[Any] | None = None
) -> pytest.MarkDecorator:
    """Marks a test as the trial of a promise, by which the campaign's table counts it.

    full, quick: the values of the fixture `trial`, one test for each (a number: that many), in the
    whole campaign and in the quick one (default: the same).
    """
    numbers = [
        range(n) if isinstance(n, int) else n for n in (full, full if quick is None else quick)
    ]
    return pytest.mark.promise(text, *numbers)


class Runs:
    """Runs of one command in folders below `work`, and what one came to that nothing disturbed.

    Attributes:
        outcome: its digests (`micro_run.outcome`).
        seconds: how long it took.
        calls: the system calls that its saves made.
    """

    def __init__(self, work: Path, epochs: int):
        self.work = work
        self.argv = [*micro_run.ARGUMENTS, "--num_epoch", str(epochs)]
        log_path = self.folder()
        begun = time.monotonic()
        counting = partial(run_and_count, self.main(log_path), log_path / "calls")
        assert_ends(start(counting, log_path / "output"))
        self.seconds = time.monotonic() - begun
        (folder,) = micro_run.run_folders(log_path)
        self.outcome = micro_run.outcome(folder)
        self.calls = int((log_path / "calls").read_text())

    def folder(self) -> Path:
        """A new one."""
        folder = self.work / str(len(list(self.work.iterdir())))
        folder.mkdir()
        return folder

    def main(self, log_path: Path, *more: str, **options: Any) -> Callable[[], Any]:
        command = [*self.argv, "--log_path", str(log_path), "--resume", "auto", *more]
        return partial(micro_run.main, command, **options)

    def begin(self, log_path: Path, *more: str, **options: Any) -> Child:
        return start(self.main(log_path, *more, **options), log_path / "output")

    def begin_training(self, *more: str) -> Child:
        """A child in a folder of its own whose run folder is there."""
        child = self.begin(self.folder(), *more)
        child.wait_for("run folder")
        return child

    def assert_resumes(self, log_path: Path, *more: str) -> None:
        """The same command again ends, and nothing differs from the undisturbed run."""
        assert_ends(start(self.main(log_path, *more), log_path / "output-again"))
        (folder,) = micro_run.run_folders(log_path)
        self.assert_same(folder)

    def assert_same(self, folder: Path) -> None:
        """The folder of a finished run holds what that of the undisturbed one does."""
        assert not list(folder.glob("*.tmp"))
        assert micro_run.outcome(folder) == self.outcome


def assert_ends(child: Child, code: int = 0) -> None:
    ended = child.wait()
    assert ended == code, child.text()


def assert_says(child: Child, words: str, *codes: int, alone: bool = True) -> None:
    """Wait for an end with one of the codes and one line that holds the words.

    alone: whether a traceback beside it is a fault, unless the program crashed.
    """
    code, lines = child.wait(), child.text().splitlines()
    assert code in codes, child.text()
    assert len([line for line in lines if words in line]) == 1, child.text()
    traceback = any(line.startswith("Traceback") for line in lines)
    assert not alone or traceback == (code == CRASHED), child.text()


def watch_saves(watch: Watch) -> None:
    """From now on `watch` the system calls of each save of this process, a child."""
    save = Recorder.save

    def watched_save(self: Recorder, *args: Any, **options: Any) -> None:
        with watch:
            save(self, *args, **options)

    Recorder.save = watched_save


def run_and_count(main: Callable[[], Any], total: Path) -> None:
    watch = Watch()
    watch_saves(watch)
    main()
    total.write_text(str(watch.calls))
