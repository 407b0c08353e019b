"""The folder of a run: how it begins, and what it says when the run has finished."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from experiment.training_state import TrainingState
from util.distributed import Group
from util.record import MetricsFile, write_json
from util.util import create_run_folder, environment_report


def new_folder(log_path: Path, run_name: str, group: Group) -> Path:
    """A new run folder of the first process, its path in all."""
    name = f"{run_name}_{datetime.now():%Y%m%d-%H%M%S}"
    return group.from_first(lambda: create_run_folder(log_path, name))


def begin_folder(folder: Path, arguments: dict[str, Any], state: TrainingState) -> None:
    """Write config.json where there is none, and cut metrics.jsonl to what the state knows.

    arguments: every flag with its value; the state knows those that decide what is computed.
    """
    if not (folder / "config.json").exists():
        config = {
            "arguments": arguments,
            "identity": state.arguments,
            "environment": environment_report(),
        }
        write_json(folder / "config.json", config)
    metrics = MetricsFile(folder / "metrics.jsonl")
    metrics.truncate_to(state.lines)
    try:
        metrics.read()
    except ValueError as error:
        raise ValueError(
            f"{metrics.path} is damaged ({error}): restore the file, or start a new run"
        ) from error


def final_metrics(folder: Path, state: TrainingState) -> dict[str, Any]:
    """What a finished run reached, from the records of its epochs.

    Raises: ValueError if they are gone.
    """
    metrics = MetricsFile(folder / "metrics.jsonl")
    records = metrics.read()
    if len(records) != state.lines:
        raise ValueError(
            f"{metrics.path} holds {len(records)} of {state.lines} records: it was deleted or "
            "changed when the training had ended"
        )
    last, best = records[-1], records[state.best["epoch"]]
    return {
        "folder": str(folder),
        "epochs": len(records),
        "test_top1": last["test"]["top1"],
        "test_top5": last["test"]["top5"],
        "head_top1": last["test"]["head_top1"],
        "loss": last["train"]["total"],
        "best_epoch": best["epoch"],
        "best_test_top1": best["test"]["top1"],
        "best_chosen_on": "validation" if "validation" in best else "test",
    }


def describe_result(result: dict[str, Any]) -> str:
    """The final line of a run."""
    return (
        f"finished: test top-1 {result['test_top1']:.2f} % after the last epoch, "
        f"{result['best_test_top1']:.2f} % at epoch {result['best_epoch']}, the best on the "
        f"{result['best_chosen_on']} set; curves in {result['folder']}/curves.png"
    )
