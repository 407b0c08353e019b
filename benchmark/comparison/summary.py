"""What a comparison found: numbers of each run, and their mean and deviation over the seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.job import Job
from util.file.record import MetricsFile

Entry = dict[str, Any]  # one row of the table, as results.json has it
Problems = dict[tuple[str, int], str]  # why a run failed, by `Job.key`
Pair = tuple[float, float | None]  # mean and sample deviation

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
    records = MetricsFile(folder / "metrics.jsonl").read()
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


def mean_and_deviation(values: Iterable[float | None]) -> Pair | None:
    """Mean and sample deviation (None of a single value); None if a value is missing."""
    values = list(values)
    if not values or None in values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def whole_seeds(jobs: Sequence[Job], problems: Problems) -> list[int]:
    """The seeds of which every run is over: complete, or failed by itself."""
    open_jobs = [job for job in jobs if job.run_folder() is None and job.key not in problems]
    unfinished = {job.seed for job in open_jobs}
    return [seed for seed in dict.fromkeys(job.seed for job in jobs) if seed not in unfinished]


def summarise(jobs: Sequence[Job], problems: Problems) -> list[Entry]:
    """One entry per row: its flags, its runs by seed, and means over the complete ones."""
    rows: dict[str, list[Job]] = {}
    for job in jobs:
        rows.setdefault(job.row.name, []).append(job)
    return [_entry(own, problems) for own in rows.values()]


def _entry(jobs: Sequence[Job], problems: Problems) -> Entry:
    """The row of these jobs, of one seed each."""
    row = jobs[0].row
    folders = {job.seed: job.run_folder() for job in jobs}
    runs = {seed: run_result(folder) for seed, folder in folders.items() if folder is not None}
    failed = {job.seed: problems[job.key] for job in jobs if job.key in problems}
    return {
        "name": row.name,
        **{key: row.arguments[key] for key in (*SETTINGS, "num_epoch")},
        "flags": list(row.flags),
        "runs": runs,
        "problems": {seed: problem for seed, problem in failed.items() if seed not in runs},
        "mean": _means(list(runs.values())),
    }


def _means(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of every number, and of each element of a series."""
    found: dict[str, Any] = {}
    for key in (*CHOICES, "seconds", "peak_mebibytes"):
        found[key] = mean_and_deviation(run[key] for run in runs)
    for key in ("heads", "steps", "reliable", "by_epoch"):
        columns = zip(*(run[key] for run in runs), strict=True)
        found[key] = [mean_and_deviation(column) for column in columns]
    return found
