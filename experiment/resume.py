"""Where a run goes on: its folder, and the checkpoint or weights that it starts from."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

from experiment.training_state import TrainingState
from model import RateModel
from util.checkpoint import CheckpointError, load_initial_weights
from util.checkpoint_history import list_checkpoints, load_newest
from util.distributed import Group


class Start(NamedTuple):
    """Where a run begins: its folder (None: a new one) and the checkpoints to go on from."""

    folder: Path | None
    checkpoints: list[Path]


def choose_start(
    resume: str | None, net: RateModel, log_path: Path, identity: dict[str, Any]
) -> Start:
    """What `--resume` asks for; a file outside a run folder fills `net` with initial weights."""
    if resume is None:
        return Start(None, [])
    if resume == "auto":
        folder = matching_run(log_path, identity)
        return Start(folder, [] if folder is None else list_checkpoints(folder))
    path = Path(resume)
    if (path.parent / "config.json").exists():
        return Start(path.parent, [path])
    load_weights(net, path)
    return Start(None, [])


def matching_run(log_path: Path, identity: dict[str, Any]) -> Path | None:
    """The newest run folder below `log_path` that was started with the same arguments."""
    configs = sorted(log_path.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(configs):
        try:
            config = json.loads(path.read_text())
        except ValueError:
            continue  # not a file of ours
        if isinstance(config, dict) and config.get("identity") == identity:
            return path.parent
    return None


def restore(
    state: TrainingState, checkpoints: list[Path], group: Group, logger: logging.Logger
) -> None:
    """Continue from the first good one of `checkpoints` (newest first).

    Raises: CheckpointError if none is good; ValueError if it belongs to other arguments.
    """
    content, path = load_newest(checkpoints, logger.warning)
    state.load_state_dict(content)
    if not group.is_first:
        state.means.clear()  # the first process holds the sums of all
    logger.info(f"going on from {path}: epoch {state.epoch}, step {state.batch}")


def load_weights(net: RateModel, path: Path) -> None:
    """Weights of one of our checkpoints or of a published file into `net`.

    A network without branches takes those of one with branches; nothing else may be missing.
    Raises: CheckpointError that names what does not fit.
    """
    weights = load_initial_weights(path)
    wanted = net.state_dict()
    if not net.branches:
        weights = {k: v for k, v in weights.items() if not k.startswith("branches.")}
    problems = [f"{key} is missing" for key in wanted if key not in weights]
    problems += [f"{key} is not part of this network" for key in weights if key not in wanted]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if problems:
        raise CheckpointError(
            f"{path} belongs to another network ({problems[0]}; {len(problems)} differences): "
            "give the arch, width, method and classes that it was trained with"
        )
    net.load_state_dict(weights)
