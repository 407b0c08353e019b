"""Runs that an earlier call found, here or on another machine: not repeated, but counted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.job import Job
from benchmark.comparison.summary import NUMBERS, ORIGIN, SERIES

KnownRuns = dict[tuple[str, int], dict[str, Any]]  # by `Job.key`

KEYS = {*NUMBERS, *SERIES, *ORIGIN, "samples"}  # of a run in results.json
ABSENT = {"selected", "ema", "training_cpu_seconds", "samples"}  # may be None


def read_known(path: Path) -> KnownRuns:
    """The runs of a results.json, those that its tables left out too.

    Raises: ValueError that names what is wrong with the file; OSError.
    """
    wanted = "expected the results.json of a comparison"
    if not path.is_file():
        raise FileNotFoundError(f"--known {path}: there is no such file, {wanted}")
    try:
        rows = json.loads(path.read_bytes())["rows"]
        found = {
            (row["name"], int(seed)): run
            for row in rows
            for seed, run in {**row["runs"], **row.get("left_out", {})}.items()
        }
        missing = {key: sorted(KEYS - run.keys()) for key, run in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"--known {path} is something else: {wanted}") from error
    for (name, seed), keys in missing.items():
        if keys:
            raise ValueError(
                f"--known {path}: the run {name}, seed {seed} lacks {', '.join(keys)}: the file is "
                "of an earlier version; have it written anew in the folder of its runs, or leave "
                "it out"
            )
        run = found[name, seed]
        wrong = _wrong_value(run)
        if wrong is not None:
            raise ValueError(
                f"--known {path}: the run {name}, seed {seed} has {wrong} {run[wrong]!r}: the file "
                "was changed by hand; restore it, or leave it out"
            )
    return found


def _wrong_value(run: dict[str, Any]) -> str | None:
    """The name of a value that no run has, if there is one: the tables would fail at it."""
    for name in (*NUMBERS, "samples"):
        if not (run[name] is None and name in ABSENT) and not _is_number(run[name]):
            return name
    for name in SERIES:
        if not isinstance(run[name], list) or not all(map(_is_number, run[name])):
            return name
    environment = run["environment"]
    return None if isinstance(environment, dict) and "device" in environment else "environment"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def with_known(jobs: Sequence[Job], known: KnownRuns) -> tuple[list[Job], str | None]:
    """The jobs, those found among the known runs with their results; and which runs are no job's.

    A run is a job's if experiment, row, flags and seed are the same.
    """
    same = {job.key: _of_same_flags(job, known) for job in jobs}
    found = [job._replace(known=job.known or same[job.key]) for job in jobs]
    others = ", ".join(f"{name} {seed}" for name, seed in known if not same.get((name, seed)))
    return found, others or None


def _of_same_flags(job: Job, known: KnownRuns) -> dict[str, Any] | None:
    run = known.get(job.key)
    same = run is not None and (run["experiment"], run["flags"]) == (job.experiment, job.flags)
    return run if same and len(run["steps"]) == job.row.arguments["T"] else None
