"""Runs that an earlier call found, here or on another machine: not repeated, but counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.job import Job
from benchmark.comparison.summary import NUMBERS, ORIGIN, SERIES

KnownRuns = dict[tuple[str, int], dict[str, Any]]  # by `Job.key`

KEYS = {*NUMBERS, *SERIES, *ORIGIN, "samples"}  # of a run in results.json


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
    return found


def with_known(jobs: Sequence[Job], known: KnownRuns) -> tuple[list[Job], str | None]:
    """The jobs, those found among the known runs with their results; and which runs are no job's.

    A run is a job's if experiment, row, flags and seed are the same.
    """
    found = [job._replace(known=job.known or _of_same_flags(job, known)) for job in jobs]
    used = {job.key for job in jobs if _of_same_flags(job, known)}
    others = ", ".join(f"{name} {seed}" for name, seed in known if (name, seed) not in used)
    return found, others or None


def _of_same_flags(job: Job, known: KnownRuns) -> dict[str, Any] | None:
    run = known.get(job.key)
    same = run is not None and (run["experiment"], run["flags"]) == (job.experiment, job.flags)
    return run if same else None
