"""Where a run goes on: its folder, and the checkpoint or weights that it starts from."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from experiment.training_state import (
    TrainingState,
    refuse_other_arguments,
    with_later_switches,
)
from model import RateModel
from util.checkpoint import CheckpointError, load_checkpoint, load_initial_weights
from util.checkpoint_history import BEST, list_checkpoints, load_newest
from util.distributed import Group

# Arguments that decide which network some weights belong to and what it computes in inference; its
# gradients and branches depend on more (`options.network_arguments`).
INFERENCE_ARGUMENTS = ("arch", "width", "stem", "T", "decay", "thresh", "v_reset")


class Start(NamedTuple):
    """Where a run begins: its folder (None: a new one), and the file to go on from in it.

    Without a file a run goes on from the newest good checkpoint of the folder.
    """

    folder: Path | None
    file: Path | None = None

    def checkpoints(self) -> list[Path]:
        """The files to try, in this order; to be asked while the folder is locked."""
        if self.folder is None or self.file is not None:
            return [] if self.file is None else [self.file]
        best = self.folder / BEST
        return list_checkpoints(self.folder) + ([best] if best.exists() else [])


def choose_start(
    resume: str | None, net: RateModel, log_path: Path, identity: dict[str, Any]
) -> Start:
    """What `--resume` asks for; a file outside a run folder fills `net` with initial weights."""
    if resume is None:
        return Start(None)
    if resume == "auto":
        return Start(matching_run(log_path, identity))
    path = Path(resume)
    if run_identity(path.parent) is not None:
        return Start(path.parent, path)
    load_weights(net, path, identity)
    return Start(None)


def matching_run(log_path: Path, identity: dict[str, Any]) -> Path | None:
    """The newest run folder below `log_path` that was started with the same arguments."""
    configs = sorted(log_path.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(configs):
        saved = run_identity(path.parent)
        if isinstance(saved, dict) and with_later_switches(saved) == with_later_switches(identity):
            return path.parent
    return None


def run_identity(folder: Path) -> dict[str, Any] | None:
    """What the run in `folder` computes, by flag; None if it is no run folder of ours."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return config.get("identity") if isinstance(config, dict) else None


def restore(
    state: TrainingState, checkpoints: Sequence[Path], group: Group, logger: logging.Logger
) -> None:
    """Continue from the first good one of `checkpoints`.

    Raises: CheckpointError if none is good or if it belongs to other arguments.
    """
    content, path = group.from_first(lambda: load_newest(checkpoints, logger.warning))
    try:
        state.load_state_dict(content)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    if not group.is_first:
        state.means.clear()  # the first process holds the sums of all
    logger.info(f"going on from {path}: {state.place}")


def load_weights(net: RateModel, path: Path, identity: dict[str, Any]) -> None:
    """Weights of one of our checkpoints or of a published file into `net`.

    A network without branches takes those of one with branches; nothing else may be missing.
    Raises: CheckpointError that names what does not fit.
    """
    weights = compatible_weights(path, identity)
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
            "give the arch, width, method and data set that it was trained with"
        )
    net.load_state_dict(weights)


def compatible_weights(path: Path, identity: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in a file.

    Raises: CheckpointError if the file says that they belong to another network or data set. What a
    file does not say is taken to be as asked for: those of the published code say nothing.
    """
    weights = load_initial_weights(path)
    try:
        saved = load_checkpoint(path).get("arguments", {})
    except CheckpointError:
        return weights  # a sound file, as the first line found, but none of ours
    if not isinstance(saved, dict):
        raise CheckpointError(f"checkpoint {path} is none of a run: its arguments are {saved!r}")
    saved = identity | saved
    names = ("dataset", *INFERENCE_ARGUMENTS)
    saved, wanted = ({name: values.get(name) for name in names} for values in (saved, identity))
    try:
        refuse_other_arguments(saved, wanted)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    return weights
