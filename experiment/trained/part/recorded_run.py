"""A run as its folder tells of it: what it computes, what it has reached, how it stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, NamedTuple

from experiment.flag.lookup import all_flags, defaults_of
from experiment.train.folder import evaluated, is_held, outcome_of, read_records, run_config
from util.file.named_folder import folders_below

SIGNS = {"config.json", "metrics.jsonl", "train.log"}  # files of which every run folder has one
# Of every epoch's record; beside them `outcome_of` reads the last and the best.
NUMBERS = ("epoch", "test/top1", "train/total", "timing/seconds", "timing/peak_memory_mib")
STOPPED = "stopped by "  # how the last line of a run begins that was asked to stop


class RecordedRun(NamedTuple):
    """arguments: every flag with its value, a path as text; records: of its epochs so far."""

    folder: Path
    arguments: dict[str, Any]
    records: list[dict[str, Any]]

    @property
    def asked_epochs(self) -> int:
        return self.arguments["num_epoch"]

    def value(self, flag: str) -> Any:
        """None for a flag of another experiment alone. Raises: ValueError if none has it."""
        if flag not in self.arguments and flag not in all_flags():
            raise ValueError(f"there is no flag --{flag} in {self.folder}")
        return self.arguments.get(flag)

    def series(self, place: str) -> list[Any]:
        """A number of every epoch's record, by its place in it, such as test/top1.

        What begins with test is of those epochs alone that were evaluated.
        """
        return self.curve(place)[1]

    def curve(self, place: str) -> tuple[list[int], list[Any]]:
        """The epochs that `series` is of, and the series."""
        part = place.split("/")
        records = evaluated(self.records) if part[0] == "test" else self.records
        epochs = [record["epoch"] for record in records]
        return epochs, [reduce(getitem, part, record) for record in records]

    def state(self) -> tuple[str, str | None]:
        """In progress, finished, interrupted or failed; and why it ended too early, if it said."""
        if is_held(self.folder):
            return "in progress", None
        if len(self.records) >= self.asked_epochs:
            return "finished", None
        reason = reason_of_end(self.folder)
        interrupted = reason is None or reason.startswith(STOPPED)
        return "interrupted" if interrupted else "failed", reason


def read_run(folder: Path) -> RecordedRun:
    """Raises: ValueError for a folder that is none of a run, or is damaged."""
    config = run_config(folder)
    if config is None:
        raise ValueError(f"{folder} has no config.json of a run")
    try:
        arguments = {**config["arguments"], **config["identity"]}
        arguments = defaults_of(arguments["dataset"]) | arguments
        run = RecordedRun(folder, arguments, read_records(folder, None))
        for place in NUMBERS:
            run.series(place)
        if run.records:
            outcome_of(run.records)
        return run
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder} is damaged ({error!r})") from error


def read_runs(root: Path) -> Iterator[RecordedRun | str]:
    """The runs in a folder and below; of one that cannot be read, a sentence on it.

    Raises: OSError for a folder that cannot be read.
    """
    for place in folders_below(root):
        if SIGNS.isdisjoint(place.files):
            continue
        folder = Path(place.path)
        try:
            if "config.json" not in place.files or run_config(folder) is not None:
                yield read_run(folder)
        except (ValueError, OSError) as error:
            yield str(error)


def reason_of_end(folder: Path) -> str | None:
    """What the last line of train.log says, if a run ended with it that was not finished."""
    try:
        lines: Sequence[str] = (folder / "train.log").read_text("utf-8", "replace").splitlines()
    except OSError:
        return None
    error = re.match(r"\S+ \S+ ERROR (.*)", lines[-1]) if lines else None
    return error[1] if error else None
