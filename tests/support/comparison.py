"""A plan of two rows and two seeds, and what stands in for its runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.job import Job

PLAN = """
seeds = [1, 2]
[flags]
dataset = "FakeData"
width = 2
T = 2
train_per_class = 4
train_batch_size = 64
num_epoch = 1
num_workers = 0
auto_aug = false
[[row]]
name = "esd"
[[row]]
name = "sltt"
method = "sltt"
"""
RECORD = {
    "test": {"top1": 50.0},
    "validation": {"top1": 40.0},
    "train": {"reliable": 0.5},
    "timing": {"seconds": 2.0, "cpu_seconds": 1.5, "peak_memory_mib": 100.0},
}
EVALUATION = {
    "head_top1": [30.0, 50.0],
    "steps": [{"top1": 20.0}, {"top1": 50.0}],
    "samples": 1000,
}
ENVIRONMENT = {"device": "AMD EPYC", "threads": 1, "cuda": None, "command": "python main.py"}


def leave_run(
    run: Path, records: Sequence[dict] = (RECORD,), evaluation=EVALUATION, **environment: Any
) -> None:
    """The files of a complete run that a comparison reads."""
    (run / "evaluate").mkdir(parents=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (run / "evaluate" / "evaluate.json").write_text(json.dumps(evaluation))
    config = {"environment": ENVIRONMENT | environment}
    (run / "config.json").write_text(json.dumps(config))


def complete(own: Job, **changes: Any) -> None:
    """Leave what a run leaves; changes: as `leave_run` has them."""
    leave_run(own.folder / "run", **changes)
    (own.folder / "done.json").write_text(json.dumps({"flags": own.flags, "run": "run"}))
