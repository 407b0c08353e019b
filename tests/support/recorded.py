"""Folders of runs as a training leaves them, without a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiment.cifar import main as cifar
from experiment.flag.values import request_of
from util.file.record import MetricsFile, write_json


def record_of(epoch: int, heads: int = 3, top1: float | None = None) -> dict[str, Any]:
    """An epoch's record; top1: test accuracy of the spiking network."""
    losses = {"total": 3.0 - epoch, "hard": 2.5 - epoch, "soft": 0.5, "reliable": 0.5}
    rates = {"stem": 0.2, "stages.0": 0.1 + epoch / 100, "stages.1": 0.05}
    test = [40.0 + head + epoch for head in range(heads)]
    test[-1] = test[-1] if top1 is None else top1
    return {
        "epoch": epoch,
        "train": {**losses, "head_top1": [50.0 + epoch] * heads},
        "test": {"top1": test[-1], "top5": 99.0, "head_top1": test, "firing_rate": rates},
        "timing": {"seconds": 61.0, "peak_memory_mib": 500.0 + epoch},
    }


def sparsely(records: Sequence[dict[str, Any]], every: int) -> list[dict[str, Any]]:
    """The records of a run with --eval_every, of which these are all epochs."""
    last, tests = len(records) - 1, ("test", "validation")
    return [
        record
        if (epoch + 1) % every == 0 or epoch == last
        else {name: value for name, value in record.items() if name not in tests}
        for epoch, record in enumerate(records)
    ]


def write_run(
    folder: Path,
    *flags: str,
    records: Sequence[dict[str, Any]] = (),
    log: str | None = None,
    experiment: ModuleType = cifar,
) -> Path:
    """The folder of a run with these flags; log: the last line of train.log, with its level."""
    folder.mkdir(parents=True)
    request = request_of(experiment.get_parser().parse_args(flags))
    write_json(
        folder / "config.json", {"arguments": request.arguments, "identity": request.identity}
    )
    for record in records:
        MetricsFile(folder / "metrics.jsonl").append(record)
    if log is not None:
        (folder / "train.log").write_text(f"2026-01-02 03:04:05,678 INFO x\n2026-01-02 03:05 {log}")
    return folder
