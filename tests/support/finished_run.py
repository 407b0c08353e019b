"""The micro run of tests/fault with two epochs: its command, and how it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tests.fault import micro_run


class FinishedRun(NamedTuple):
    """The folder of a run, and what its command returned."""

    folder: Path
    result: dict[str, Any]


def command(log_path: Path, *more: str) -> list[str]:
    return [*micro_run.ARGUMENTS, "--num_epoch", "2", "--log_path", str(log_path), *more]


def run(log_path: Path, *more: str) -> FinishedRun:
    result = micro_run.main(command(log_path, *more))
    return FinishedRun(Path(result["folder"]), result)


def folder_in(log_path: Path) -> Path:
    """The folder of the only run there."""
    (folder,) = micro_run.run_folders(log_path)
    return folder


def refusal(log_path: Path, *more: str, code: int = 2) -> str:
    """The one sentence with which a command ends that leaves no file behind."""
    before = sorted(log_path.rglob("*"))
    ended, text = micro_run.ending(command(log_path, *more))
    (error,) = micro_run.errors_in(text)
    assert ended == code and "Traceback" not in text, text
    assert sorted(log_path.rglob("*")) == before
    return error
