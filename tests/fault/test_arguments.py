"""Random command lines: each ends with exit code 0 or 2, and a refused one leaves nothing."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import pytest

from tests.fault import micro_run
from tests.fault.argument import (
    FLAGS,
    GOOD,
    MORE,
    PATHS,
    VALUED,
    random_arguments,
    takes,
    values_to_try,
)
from tests.fault.micro_run import ending
from tests.fault.trial import promise

TIME_LIMIT = 120  # seconds for one command
COMMAND = [*micro_run.ARGUMENTS, "--num_epoch", "1"]


def test_values_are_drawn_for_every_flag():
    assert {*GOOD, *MORE, *PATHS} <= {flag.name for flag in FLAGS}
    for flag in VALUED:
        right, _ = values_to_try(flag)
        assert right and all(takes(flag.kind, text) for text in right), flag.name


@pytest.fixture(scope="module")
def files(work) -> list[str]:
    """What --resume, --init and --evaluate may name: a checkpoint, and what is none."""
    text = work / "text"
    text.write_text("no checkpoint")
    ending([*COMMAND, "--log_path", str(work / "a-run")])
    (folder,) = micro_run.run_folders(work / "a-run")
    return [str(folder / "last.pt"), str(text), str(work), "nowhere.pt", "", "\0"]


@pytest.mark.own_process
@promise(
    "random arguments: exit code 0 or 2, one sentence, no traceback, no folder left",
    full=2000,
    quick=20,
)
def test_random_arguments(work, nothing_fetched, files, choose):
    log_path = work / "argument-runs"
    log_path.mkdir()
    log_paths = (files[1], str(work / "no" / "parent"), "/proc/runs", "\0")
    argv = [*COMMAND, "--log_path", str(log_path), *random_arguments(choose, files, log_paths)]
    try:
        with time_limit():
            code, text = ending(argv)
        said = f"{argv}: {text}"
        assert code in (0, 2) and "Traceback" not in text, said
        if code == 2:
            assert len(micro_run.errors_in(text)) == 1, said
            assert not list(log_path.iterdir()), said
    finally:
        shutil.rmtree(log_path)


@contextmanager
def time_limit() -> Iterator[None]:
    """AssertionError, which no part of the program expects, after TIME_LIMIT seconds."""

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError(f"no end after {TIME_LIMIT} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
