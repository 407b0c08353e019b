"""The folder of a run: how it is recognised, begins, is held by one program, and what it ends with.

config.json          every argument, versions, command, git commit; extensions to more epochs
train.log            what was printed
metrics.jsonl        one object per epoch
events.out.tfevents  the same for TensorBoard, if that is installed
last.pt, last-1.pt   the newest checkpoints
best.pt              the checkpoint of the best epoch
ema.pt               the averaged network of the newest epoch, with --ema
.lock                what holds the folder against other programs
curves.png           loss, accuracy, reliable fraction and firing rates over the epochs, drawn when
                     the training ends, is asked to stop or fails
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, TextIO

from util.file.record import MetricsFile, write_json
from util.process.distributed import Group
from util.util import create_run_folder, environment_report

PLACES = ("data_path", "cache_path")  # the flags that say where data lie
AVERAGED = "ema.pt"

if TYPE_CHECKING:
    from experiment.train.state import TrainingState
    from experiment.train.task import Request


def run_config(folder: Path) -> dict[str, Any] | None:
    """What config.json says of the run in `folder`; None if it is no run folder of ours.

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
    return config if isinstance(config, dict) and config.get("identity") is not None else None


def run_identity(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` computes, by flag; None and errors as of `run_config`."""
    config = run_config(folder)
    return None if config is None else config["identity"]


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
        tries = (_taken(lock, fcntl.LOCK_EX) or sleep(0.1) for _ in range(5))
        if not any(tries):  # not by who only looks, as `is_held`
            raise ValueError(
                f"another process is training in {folder}: wait for it, or start a new run "
                "without --resume"
            )
        yield


def is_held(folder: Path) -> bool:
    """Whether a program trains in a run folder, as far as this machine sees its lock."""
    try:
        with open(folder / ".lock") as lock:
            return not _taken(lock, fcntl.LOCK_SH)
    except OSError:  # no run has begun there
        return False


def _taken(lock: TextIO, kind: int) -> bool:
    """Whether this process has a lock now; the system gives it back when the file is closed."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def begin_folder(folder: Path, arguments: dict[str, Any], state: TrainingState) -> None:
    """Write config.json where there is none, and cut metrics.jsonl to what the state knows.

    Where a run goes on, config.json says where its data lie by now, and the number of epochs, of
    which it keeps the old. arguments: every flag with its value; the state knows those that decide
    what is computed.
    """
    path = folder / "config.json"
    if not path.exists():
        config = {
            "arguments": arguments,
            "identity": state.arguments,
            "environment": environment_report(),
        }
        write_json(path, config)
    elif isinstance(run_identity(folder), dict):
        bring_up_to_date(path, arguments, state)
    metrics = MetricsFile(folder / "metrics.jsonl")
    metrics.truncate_to(state.lines)
    try:
        metrics.read()
    except ValueError as error:
        raise ValueError(
            f"{metrics.path} is damaged ({error}): restore the file, or start a new run"
        ) from error


def bring_up_to_date(path: Path, arguments: dict[str, Any], state: TrainingState) -> None:
    """Bring config.json to the places of the data and to the state's number of epochs."""
    config = json.loads(path.read_bytes())
    now, before = ({"num_epoch": x.get("num_epoch")} for x in (state.arguments, config["identity"]))
    known = config.get("arguments", {})
    changed = {name: arguments[name] for name in PLACES if name in arguments} | now
    if known | changed == known:
        return
    config["arguments"] = known | changed
    if now != before:
        config["identity"] |= now
        note = {"epoch": state.epoch, **before, "command": environment_report()["command"]}
        config["extended"] = [*config.get("extended", ()), note]
    write_json(path, config)


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
    return {"folder": str(folder), **outcome_of(read_records(folder, state.lines))}


def evaluated(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records of those epochs after which there was an evaluation (--eval_every)."""
    return [record for record in records if "test" in record]


def best_of(records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The record of the best epoch: on the validation set, on the test set where there is none.

    None where no epoch was evaluated.
    """
    return max(
        evaluated(records),
        key=lambda record: record.get("validation", record["test"])["top1"],
        default=None,
    )


def outcome_of(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a run reached by the records of its epochs, of which there is one at least.

    test_epoch: the last that was evaluated; where there is none, nothing is said of a test.
    """
    outcome = {"epochs": len(records), "loss": records[-1]["train"]["total"]}
    best = best_of(records)
    if best is None:
        return outcome
    last = evaluated(records)[-1]
    averaged = {"ema_test_top1": last["ema"]["test"]["top1"]} if "ema" in last else {}
    return outcome | {
        "test_epoch": last["epoch"],
        "test_top1": last["test"]["top1"],
        "test_top5": last["test"]["top5"],
        "head_top1": last["test"]["head_top1"],
        "best_epoch": best["epoch"],
        "best_test_top1": best["test"]["top1"],
        "best_chosen_on": "validation" if "validation" in best else "test",
        **averaged,
    }
