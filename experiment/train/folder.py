"""The folder of a run: how it is recognised, begins, is held by one program, and what it ends with.

config.json          every argument, versions, command, git commit
train.log            what was printed
metrics.jsonl        one object per epoch
events.out.tfevents  the same for TensorBoard, if that is installed
last.pt, last-1.pt   the newest checkpoints
best.pt              the checkpoint of the best epoch
.lock                what holds the folder against other programs
curves.png           loss, accuracy, reliable fraction and firing rates over the epochs, drawn when
                     the training ends, is asked to stop or fails
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from util.file.record import MetricsFile, write_json
from util.process.distributed import Group
from util.util import create_run_folder, environment_report

if TYPE_CHECKING:
    from experiment.train.state import TrainingState
    from experiment.train.task import Request


def run_identity(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` computes, by flag; None if it is no run folder of ours.

    Raises: ValueError if its config.json is damaged.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except OSError:
        return None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): restore it, or copy its checkpoints elsewhere to begin "
            "a new run with their weights"
        ) from error
    return config.get("identity") if isinstance(config, dict) else None


def is_run_folder(folder: Path) -> bool:
    """Whether a run of ours is there; so is one whose config.json is damaged."""
    try:
        return run_identity(folder) is not None
    except ValueError:
        return True


@contextmanager
def run_folder(found: Path | None, request: Request, group: Group) -> Iterator[Path]:
    """The folder that was found, or a new one, its path in all processes; held by the first."""
    name = f"{request.run_name}_{datetime.now():%Y%m%d-%H%M%S}"
    make = partial(create_run_folder, request.log_path, name)
    folder = group.from_first(make) if found is None else found
    with locked(folder) if group.is_first else nullcontext():
        yield folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder against other processes; the system lets go when this one ends.

    Raises: ValueError if another process is training in it; OSError if it cannot be locked.
    """
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"another process is training in {folder}: wait for it, or start a new run "
                "without --resume"
            ) from None
        yield


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


def read_records(folder: Path, count: int | None) -> list[dict[str, Any]]:
    """The records of the epochs; ValueError unless there are `count` of them (None: any number)."""
    metrics = MetricsFile(folder / "metrics.jsonl")
    records = metrics.read()
    if count not in (None, len(records)):
        raise ValueError(
            f"{metrics.path} holds {len(records)} of {count} records: it was deleted or changed "
            "during the run"
        )
    return records


def final_metrics(folder: Path, state: TrainingState) -> dict[str, Any]:
    """What a finished run reached; ValueError if the records of its epochs are gone."""
    records = read_records(folder, state.lines)
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
