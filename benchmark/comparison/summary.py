"""What a comparison found: numbers of each run, and their mean and deviation over the seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.job import Job

SETTINGS = ("method", "teacher", "beta", "arch", "T")

# What a run is judged by: name, and how it was chosen.
CHOICES = {
    "last": "after the last epoch",
    "selected": "at the epoch that is best on the validation set",
    "best": "at the epoch that is best on the test set (as published; optimistic)",
}


def run_result(folder: Path) -> dict[str, Any]:
    """Everything about one run that the tables need; accuracies in percent, on the test set.

    last, selected, best: of CHOICES (selected: None without a validation set); heads, steps: after
    the last epoch, of every head and after every time step; reliable: share of the training
    samples, by epoch; seconds: of the training part of an epoch, median; peak_mebibytes: of the
    process (of the device, if that is a GPU).
    """
    records = [json.loads(x) for x in (folder / "metrics.jsonl").read_bytes().splitlines()]
    evaluation = json.loads((folder / "evaluate" / "evaluate.json").read_bytes())
    top1 = [record["test"]["top1"] for record in records]
    validation = [record["validation"]["top1"] for record in records if "validation" in record]
    timing = [record["timing"] for record in records]
    return {
        "last": top1[-1],
        "selected": top1[validation.index(max(validation))] if validation else None,
        "best": max(top1),
        "heads": evaluation["head_top1"],
        "steps": [step["top1"] for step in evaluation["steps"]],
        "reliable": [100 * record["train"]["reliable"] for record in records],
        "by_epoch": top1,
        "seconds": statistics.median(t["seconds"] for t in timing),
        "peak_mebibytes": max(t["peak_memory_mib"] for t in timing),
    }


def mean_and_deviation(values: Iterable[float | None]) -> tuple[float, float | None] | None:
    """Mean and sample deviation (None of a single value); None if a value is missing."""
    values = list(values)
    if not values or None in values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def whole_seeds(jobs: Sequence[Job], problems: dict[tuple[str, int], str]) -> list[int]:
    """The seeds of which every run is over: complete, or failed by itself."""
    unfinished = {
        job.seed
        for job in jobs
        if job.run_folder() is None and (job.row.name, job.seed) not in problems
    }
    return [seed for seed in dict.fromkeys(job.seed for job in jobs) if seed not in unfinished]


def summarise(jobs: Sequence[Job], problems: dict[tuple[str, int], str]) -> list[dict[str, Any]]:
    """One entry per row: its flags, its runs by seed, and means over the complete ones.

    problems: why a run failed, by row name and seed.
    """
    rows: dict[str, dict[str, Any]] = {}
    for job in jobs:
        arguments = job.row.arguments
        entry = rows.setdefault(job.row.name, {
            "name": job.row.name,
            **{key: arguments[key] for key in (*SETTINGS, "num_epoch")},
            "flags": list(job.row.flags), "runs": {}, "problems": {},
        })  # fmt: skip
        folder = job.run_folder()
        if folder is not None:
            entry["runs"][job.seed] = run_result(folder)
        elif (job.row.name, job.seed) in problems:
            entry["problems"][job.seed] = problems[job.row.name, job.seed]
    for entry in rows.values():
        runs = list(entry["runs"].values())
        scalars = (*CHOICES, "seconds", "peak_mebibytes")
        entry["mean"] = {key: mean_and_deviation(run[key] for run in runs) for key in scalars}
        for key in ("heads", "steps", "reliable", "by_epoch"):
            columns = zip(*(run[key] for run in runs), strict=True)
            entry["mean"][key] = [mean_and_deviation(column) for column in columns]
    return list(rows.values())
