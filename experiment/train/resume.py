"""Where a run goes on: its folder, and the checkpoint or weights that it starts from."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from experiment.data_description import DataDescription, description_in, refuse_other_classes
from experiment.flag.identity import differences, refuse_other_arguments
from experiment.flag.lookup import names_of
from experiment.flag.row import Role
from experiment.train.folder import run_identity
from experiment.train.state import TrainingState
from experiment.train.task import Request
from model import RateModel
from util.checkpoint import CheckpointError, load_checkpoint, load_initial_weights
from util.file.history import BEST, list_checkpoints, load_newest
from util.process.distributed import Group


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


def choose_start(request: Request, net: RateModel, data: DataDescription) -> Start:
    """What --resume asks for; a file outside a run folder fills `net` with initial weights."""
    resume = request.resume
    if resume == "auto":
        return Start(matching_run(request.log_path, request.identity))
    if resume is not None and run_identity(resume.parent) is not None:
        return Start(resume.parent, resume)
    if resume is not None:
        way_out = ", or, if as many, begin with its weights all the same with --changed_data"
        classes_of = None if request.changed_data else data
        load_weights(net, compatible_weights(resume, request.identity, classes_of, way_out), resume)
    return Start(None)


def matching_run(log_path: Path, identity: dict[str, Any]) -> Path | None:
    """The newest run folder below `log_path` that was started with the same arguments.

    Those whose config.json is damaged are named on stderr and passed over.
    """
    configs = sorted(log_path.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(configs):
        try:
            saved = run_identity(path.parent)
        except ValueError as error:
            print(f"warning: --resume auto: {error}", file=sys.stderr)
            continue
        if isinstance(saved, dict) and not differences(saved, identity):
            return path.parent
    return None


def resume_from(
    start: Start,
    state: TrainingState,
    group: Group,
    logger: logging.Logger,
    *,
    changed_data: bool = False,
) -> bool:
    """Continue from the first good checkpoint, if there is any; whether there is.

    changed_data: whether the number of training samples may be another by now.
    Raises: CheckpointError if none is good or if it belongs to other arguments or data.
    """
    checkpoints = group.from_first(start.checkpoints)
    if not checkpoints:
        return False
    content, path = group.from_first(lambda: load_newest(checkpoints, logger.warning))
    try:
        state.load_state_dict(content)
        adapt_to_data(state, description_in(content), logger, allowed=changed_data)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    if not group.is_first:
        state.means.clear()  # the first process holds the sums of all
    logger.info(f"going on from {path}: {state.place}")
    return True


def adapt_to_data(
    state: TrainingState, saved: DataDescription | None, logger: logging.Logger, *, allowed: bool
) -> None:
    """Begin the epoch anew where there are more or fewer training samples than were `saved` with.

    Raises: ValueError unless that is allowed.
    """
    found = state.data
    if saved is None or found is None:
        return
    if saved.test_samples != found.test_samples:
        logger.warning(
            f"the checkpoint was saved with {saved.test_samples:,} test samples, by now "
            f"there are {found.test_samples:,}: accuracies before and after it are not "
            "of the same images"
        )
    if saved.training_samples == found.training_samples:
        return
    counts = f"saved with {saved.training_samples:,} training samples"
    counts += f", by now there are {found.training_samples:,}"
    if not allowed:
        raise ValueError(
            f"it was {counts}: bring the others back, or go on all the same with --changed_data"
        )
    state.begin_epoch_anew()
    logger.warning(f"--changed_data: the checkpoint was {counts}; epoch {state.epoch} begins anew")


def load_weights(net: RateModel, weights: dict[str, Tensor], path: Path) -> None:
    """The weights in the file at `path` into `net`.

    A network without branches takes those of one with branches; nothing else may be missing.
    Raises: CheckpointError that names what does not fit.
    """
    if not net.branches:
        weights = {k: v for k, v in weights.items() if not k.startswith("branches.")}
    wanted = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    problems = [
        f"{key} has shape {found.get(key, '(missing)')}, expected {wanted.get(key, '(none)')}"
        for key in wanted | found
        if found.get(key) != wanted.get(key)
    ]
    if problems:
        raise CheckpointError(
            f"{path} belongs to another network ({problems[0]}; {len(problems)} differences): "
            "give the arch, width, method and data set that it was trained with"
        )
    net.load_state_dict(weights)


def compatible_weights(
    path: Path, identity: dict[str, Any], data: DataDescription | None, way_out: str = ""
) -> dict[str, Tensor]:
    """The weights in one of our checkpoints or in a published file.

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
    names = ("dataset", *names_of(identity.get("dataset"), Role.NETWORK))
    saved, wanted = ({name: values.get(name) for name in names} for values in (saved, identity))
    try:
        refuse_other_arguments(saved, wanted)
        if data is not None:
            refuse_other_classes(description_in(content), data, way_out=way_out)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} does not fit: {error}") from error
    return weights
