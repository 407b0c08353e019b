"""What a comparison found: numbers of each run, and their mean and deviation over the seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.job import EVALUATION, Job
from experiment.train.folder import evaluated
from util.file.record import MetricsFile

Entry = dict[str, Any]  # one row of the table, as results.json has it
Problems = dict[tuple[str, int], str]  # why a run failed, by `Job.key`
Pair = tuple[float, float | None]  # mean and sample deviation

SETTINGS = ("method", "teacher", "beta", "arch", "T", "num_epoch")

# What a run is judged by: name, and how it was chosen.
CHOICES = {
    "last": "after the last epoch",
    "selected": "at the epoch that is best on the validation set",
    "best": "at the epoch that is best on the test set (as published; optimistic)",
    "ema": "of the network with averaged weights (--ema) after the last epoch",
}

# Of a run: what has a mean over the seeds, what has one element by element, what says where it is
# from.
NUMBERS = (
    *CHOICES,
    "area",
    "seconds",
    "training_seconds",
    "training_cpu_seconds",
    "peak_mebibytes",
)
SERIES = ("heads", "steps", "reliable", "by_epoch")
ORIGIN = ("experiment", "flags", "environment")


def run_result(folder: Path) -> dict[str, Any]:
    """Everything about one run that the tables need; accuracies in percent, on the test set.

    last, selected, best, ema: of CHOICES (selected: None without a validation set; ema: without
    --ema); heads, steps: after the last epoch, of every head and after every time step; area: mean
    over the time steps; reliable: share of the training samples, by epoch; by_epoch: after each
    epoch that was evaluated; seconds: of the training part of an epoch, median; training_seconds,
    training_cpu_seconds: of all epochs, by the clock and of the training process (None where an
    earlier version measured none); peak_mebibytes: of the process (of the device, if that is a
    GPU); samples: of the test set; environment: machine and versions.
    """
    records = MetricsFile(folder / "metrics.jsonl").read()
    evaluation = json.loads((folder / EVALUATION / "evaluate.json").read_bytes())
    tested = evaluated(records)
    top1 = [record["test"]["top1"] for record in tested]
    validation = [record["validation"]["top1"] for record in tested if "validation" in record]
    timing = [record["timing"] for record in records]
    worked = [t.get("cpu_seconds") for t in timing]
    steps = [step["top1"] for step in evaluation["steps"]]
    environment = json.loads((folder / "config.json").read_bytes())["environment"]
    return {
        "last": top1[-1],
        "selected": top1[validation.index(max(validation))] if validation else None,
        "best": max(top1),
        "ema": tested[-1]["ema"]["test"]["top1"] if "ema" in tested[-1] else None,
        "heads": evaluation["head_top1"],
        "steps": steps,
        "area": statistics.fmean(steps),
        "reliable": [100 * record["train"]["reliable"] for record in records],
        "by_epoch": top1,
        "seconds": statistics.median(t["seconds"] for t in timing),
        "training_seconds": sum(t["seconds"] for t in timing),
        "training_cpu_seconds": None if None in worked else sum(worked),
        "peak_mebibytes": max(t["peak_memory_mib"] for t in timing),
        "samples": evaluation.get("samples"),
        "environment": {k: v for k, v in environment.items() if k != "command"},  # has local paths
    }


def mean_and_deviation(values: Iterable[float | None]) -> Pair | None:
    """Mean and sample deviation (None of a single value); None if a value is missing."""
    values = list(values)
    if not values or None in values:
        return None
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def whole_seeds(jobs: Sequence[Job], problems: Problems) -> list[int]:
    """The seeds of which every run is over: complete, or failed by itself."""
    open_jobs = [job for job in jobs if not job.is_complete() and job.key not in problems]
    unfinished = {job.seed for job in open_jobs}
    return [seed for seed in dict.fromkeys(job.seed for job in jobs) if seed not in unfinished]


def summarise(jobs: Sequence[Job], problems: Problems, seeds: Iterable[int]) -> list[Entry]:
    """One entry per row: its flags, its runs by seed, and means over the complete ones.

    Complete runs of other than these seeds are kept apart, as left_out.
    """
    rows: dict[str, list[Job]] = {}
    for job in jobs:
        rows.setdefault(job.row.name, []).append(job)
    counted = set(seeds)
    return [_entry(own, problems, counted) for own in rows.values()]


def _entry(jobs: Sequence[Job], problems: Problems, seeds: set[int]) -> Entry:
    """The row of these jobs, of one seed each."""
    row = jobs[0].row
    complete = {job.seed: _found(job) for job in jobs if job.is_complete()}
    runs = {seed: run for seed, run in complete.items() if seed in seeds}
    failed = {job.seed: problems[job.key] for job in jobs if job.key in problems}
    return {
        "name": row.name,
        **{key: row.arguments[key] for key in SETTINGS},
        "flags": list(row.flags),
        "runs": runs,
        "left_out": {seed: run for seed, run in complete.items() if seed not in runs},
        "problems": {seed: problem for seed, problem in failed.items() if seed not in complete},
        "mean": _means(list(runs.values())),
    }


def _found(job: Job) -> dict[str, Any]:
    """A complete run: of its folder, or else as an earlier call found it."""
    folder = job.run_folder()
    if folder is None:
        return job.known
    return {**run_result(folder), "experiment": job.experiment, "flags": job.flags}


def _means(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of every number, and of each element of a series."""
    found: dict[str, Any] = {}
    for key in NUMBERS:
        found[key] = mean_and_deviation(run[key] for run in runs)
    for key in SERIES:
        columns = zip(*(run[key] for run in runs), strict=True)
        found[key] = [mean_and_deviation(column) for column in columns]
    return found
