"""A plan of two rows and two seeds, and what stands in for its runs."""

from __future__ import annotations

import json

from benchmark.comparison.job import Job

PLAN = """
seeds = [1, 2]
[flags]
dataset = "FakeData"
width = 2
T = 2
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
    "timing": {"seconds": 2.0, "peak_memory_mib": 100.0},
}
EVALUATION = {"head_top1": [30.0, 50.0], "steps": [{"top1": 20.0}, {"top1": 50.0}]}


def complete(own: Job) -> None:
    """Leave what a run leaves."""
    run = own.folder / "run"
    (run / "evaluate").mkdir(parents=True)
    (run / "metrics.jsonl").write_text(json.dumps(RECORD) + "\n")
    (run / "evaluate" / "evaluate.json").write_text(json.dumps(EVALUATION))
    (own.folder / "done.json").write_text(json.dumps({"flags": own.flags, "run": "run"}))
