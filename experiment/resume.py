"""Where a run goes on: its folder, and the checkpoint or weights that it starts from."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from experiment.data_description import DataDescription, description_in, refuse_other_classes
from experiment.training_state import (
    TrainingState,
    refuse_other_arguments,
    with_later_switches,
)
from model import RateModel
from util.checkpoint import CheckpointError, load_checkpoint, load_initial_weights
from util.checkpoint_history import BEST, list_checkpoints, load_newest
from util.distributed import Group
from util.new_folder import refuse_unusable

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


def refuse_missing(flag: str, path: Path) -> None:
    """FileNotFoundError, with the flag that names it, for a checkpoint that is not there."""
    if not path.exists():
        raise FileNotFoundError(f"--{flag}: {path} does not exist")


def refuse_unusable_start(resume: Path | str | None, log_path: Path) -> None:
    """What `choose_start` and the run could not read or write.

    Raises: FileNotFoundError for a missing checkpoint, ValueError for a folder.
    """
    folder, flag = log_path, "log_path"
    if isinstance(resume, Path):
        refuse_missing("resume", resume)
        if run_identity(resume.parent) is not None:
            folder, flag = resume.parent, "resume"
    refuse_unusable(folder, flag)


def choose_start(
    resume: Path | str | None,
    net: RateModel,
    log_path: Path,
    identity: dict[str, Any],
    data: DataDescription,
    *,
    changed_data: bool = False,
) -> Start:
    """What `--resume` asks for; a file outside a run folder fills `net` with initial weights.

    changed_data: whether they may be those of a network of other classes.
    """
    if resume is None:
        return Start(None)
    if not isinstance(resume, Path):  # "auto"
        return Start(matching_run(log_path, identity))
    if run_identity(resume.parent) is not None:
        return Start(resume.parent, resume)
    way_out = ", or, if as many, begin with its weights all the same with --changed_data"
    load_weights(net, resume, identity, None if changed_data else data, way_out=way_out)
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
    state: TrainingState,
    checkpoints: Sequence[Path],
    group: Group,
    logger: logging.Logger,
    *,
    changed_data: bool = False,
) -> None:
    """Continue from the first good one of `checkpoints`.

    changed_data: whether the number of training samples may be another by now.
    Raises: CheckpointError if none is good or if it belongs to other arguments or data.
    """
    content, path = group.from_first(lambda: load_newest(checkpoints, logger.warning))
    try:
        state.load_state_dict(content)
        adapt_to_data(state, description_in(content), logger, allowed=changed_data)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    if not group.is_first:
        state.means.clear()  # the first process holds the sums of all
    logger.info(f"going on from {path}: {state.place}")


def adapt_to_data(
    state: TrainingState, saved: DataDescription | None, logger: logging.Logger, *, allowed: bool
) -> None:
    """Begin the epoch anew where there are more or fewer training samples than were `saved` with.

    Raises: ValueError unless that is allowed.
    """
    if saved is None or state.data is None:
        return
    found = state.data
    if saved.test_samples != found.test_samples:
        logger.warning(
            f"the checkpoint was saved with {saved.test_samples:,} test samples, by now "
            f"there are {found.test_samples:,}: accuracies before and after it are not "
            "of the same images"
        )
    if saved.training_samples == found.training_samples:
        return
    counts = (
        f"saved with {saved.training_samples:,} training samples, by now there are "
        f"{found.training_samples:,}"
    )
    if not allowed:
        raise ValueError(
            f"it was {counts}: bring the others back, or go on all the same with --changed_data"
        )
    state.begin_epoch_anew()
    logger.warning(f"--changed_data: the checkpoint was {counts}; epoch {state.epoch} begins anew")


def load_weights(
    net: RateModel,
    path: Path,
    identity: dict[str, Any],
    data: DataDescription | None,
    *,
    way_out: str = "",
) -> None:
    """Weights of one of our checkpoints or of a published file into `net`.

    A network without branches takes those of one with branches; nothing else may be missing.
    data, way_out: as of `compatible_weights`.
    Raises: CheckpointError that names what does not fit.
    """
    weights = compatible_weights(path, identity, data, way_out=way_out)
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


def compatible_weights(
    path: Path, identity: dict[str, Any], data: DataDescription | None, *, way_out: str = ""
) -> dict[str, Tensor]:
    """The weights in a file.

    data: what they are for; None: for whatever classes. way_out: what else can be done about it.
    Raises: CheckpointError if the file says that they belong to another network or data set, or to
    other classes. What a file does not say is taken to be as asked for: those of the published code
    say nothing.
    """
    weights = load_initial_weights(path)
    try:
        content = load_checkpoint(path)
    except CheckpointError:
        return weights  # a sound file, as the first line found, but none of ours
    saved = content.get("arguments", {})
    if not isinstance(saved, dict):
        raise CheckpointError(f"checkpoint {path} is none of a run: its arguments are {saved!r}")
    saved = identity | saved
    names = ("dataset", *INFERENCE_ARGUMENTS)
    saved, wanted = ({name: values.get(name) for name in names} for values in (saved, identity))
    try:
        refuse_other_arguments(saved, wanted)
        if data is not None:
            refuse_other_classes(description_in(content), data, way_out=way_out)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    return weights
