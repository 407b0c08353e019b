"""Where a run begins or goes on: its folder, and the checkpoint or weights that it starts from."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from experiment.data_description import DataDescription, description_in
from experiment.flag.identity import differences
from experiment.train.folder import run_identity
from experiment.train.log_line import describe_extension, describe_fresh_start
from experiment.train.state import TrainingState
from experiment.train.task import Request
from experiment.train.weights import begin_with
from model import RateModel
from util.checkpoint import CheckpointError
from util.file.history import BEST, list_checkpoints, load_newest
from util.process.distributed import Group

NEARLY = ("num_epoch", "init")  # where a run differs in these alone, the other may be meant


class Start(NamedTuple):
    """Where a run begins: its folder (None: a new one), and the file to go on from in it.

    Without a file a run goes on from the newest good checkpoint of the folder. beginning: what to
    say where there is none.
    """

    folder: Path | None
    file: Path | None = None
    beginning: tuple[str, ...] = ()

    def checkpoints(self) -> list[Path]:
        """The files to try, in this order; to be asked while the folder is locked."""
        if self.folder is None or self.file is not None:
            return [] if self.file is None else [self.file]
        best = self.folder / BEST
        return list_checkpoints(self.folder) + ([best] if best.exists() else [])


def begin_or_go_on(request: Request, net: RateModel, data: DataDescription) -> Start:
    """What --resume and --init ask for; a run without a checkpoint has its initial weights now."""
    start = choose_start(request)
    if request.init is None or start.checkpoints():
        return start
    line = begin_with(net, request.init, request.identity, data)
    return start._replace(beginning=(*start.beginning, line))


def choose_start(request: Request) -> Start:
    """The run that --resume names, or finds: the newest of the same arguments.

    Runs whose config.json is damaged are named on stderr and passed over.
    """
    if isinstance(request.resume, Path):
        return Start(request.resume.parent, request.resume)
    if request.resume is None:
        return Start(None)
    wanted, near = request.identity, []
    alike = {name: wanted[name] for name in NEARLY}
    for folder, saved in runs_below(request.log_path):
        if not differences(saved, wanted):
            return Start(folder, beginning=(describe_fresh_start(wanted),))
        if not differences(saved | alike, wanted):
            near.append((folder, saved))
    return Start(None, beginning=(describe_fresh_start(wanted, *near[:1]),))


def runs_below(log_path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run folders there, the newest first, and what each computes."""
    configs = sorted(log_path.glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(configs):
        try:
            saved = run_identity(path.parent)
        except ValueError as error:
            print(f"warning: --resume auto: {error}", file=sys.stderr)
            continue
        if isinstance(saved, dict):
            yield path.parent, saved


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
    before, now = (
        arguments.get("num_epoch") for arguments in (content["arguments"], state.arguments)
    )
    if before != now:
        logger.info(describe_extension(before, now, state))
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
