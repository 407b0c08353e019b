"""From what `main` has parsed to a finished run: processes, folder, resume, training, result."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from experiment.data_description import describe_data
from experiment.train.failure import failures_of_a_run, noted_in, one_sentence_errors
from experiment.train.file_evaluation import evaluate_file
from experiment.train.folder import begin_folder, final_metrics, run_folder
from experiment.train.log_line import (
    NO_SIGNALS,
    describe_accumulation,
    describe_device,
    describe_result,
)
from experiment.train.loop import fit
from experiment.train.preflight import (
    check_smallest_batch,
    check_test_image,
    refuse_contradictions,
    refuse_other_flags,
    refuse_unusable_paths,
)
from experiment.train.recipe import Recipe
from experiment.train.recorder import Recorder
from experiment.train.resume import begin_or_go_on, resume_from
from experiment.train.state import TrainingState
from experiment.train.task import Data, Request, Training
from model import RateModel
from model.batch_norm import synchronise
from util.process.distributed import Group, process_group
from util.process.signals import StopRequest
from util.util import seed_everything, setup_logging


@contextmanager
def session(request: Request, recipe: Recipe) -> Iterator[Group]:
    """The processes of a command, seeded, after a look at its paths; errors in one sentence.

    Raises: SystemExit with a code of `failure` after one sentence on stderr.
    """
    processes = process_group(request.device, timeout_minutes=request.dist_timeout)
    with one_sentence_errors(recipe.batch_sizes), processes as group:
        refuse_other_flags(request, group)
        refuse_contradictions(request, recipe)
        refuse_unusable_paths(request, group)
        seed_everything(recipe.seed)
        torch.backends.cudnn.allow_tf32 = recipe.tf32
        yield group


def train(
    request: Request, recipe: Recipe, data: Data, net: RateModel, group: Group
) -> dict[str, Any]:
    """Train in a new run folder or in that of the run to resume; returns the final metrics.

    Evaluates a file instead if the request names one. To be called in a `session`.
    """
    training = Training(data, recipe, group)
    net.to(group.device, memory_format=torch.channels_last)
    if recipe.sync_bn and group.world_size > 1:
        synchronise(net, group)
    check_test_image(net, data, group)
    if request.evaluate is not None:
        return evaluate_file(net, training, request)
    check_smallest_batch(net, training)
    identity = group.share(request.identity)  # of paths, the first process's
    state = TrainingState(net, recipe, identity, describe_data(data))
    start = group.from_first(lambda: begin_or_go_on(request, net, state.data))
    with StopRequest() as stop, run_folder(start.folder, request, group) as folder:
        logger = setup_logging(folder if group.is_first else None, rank=group.rank)
        resumed = resume_from(start, state, group, logger, changed_data=request.changed_data)
        if group.is_first:
            begin_folder(folder, request.arguments, state)
        logger.info(f"run folder {folder}; device {describe_device(group)}")
        if not stop.heeds_signals:
            logger.info(NO_SIGNALS)
        if recipe.accum > 1:
            logger.warning(describe_accumulation(training, net))
        for line in (*(() if resumed else start.beginning), *data.notes):
            logger.info(line)
        with noted_in(logger), failures_of_a_run(recipe.batch_sizes):
            if group.is_first:
                data.draw_into(folder)
            stop.shielding(lambda: train_in(folder, training, state, logger, stop))
            result = group.from_first(lambda: final_metrics(folder, state))
        logger.info(describe_result(result))
        return result


def train_in(
    folder: Path,
    training: Training,
    state: TrainingState,
    logger: logging.Logger,
    stop: StopRequest,
) -> None:
    """Train `state` to the end, with its records in `folder`."""
    recipe, group = training.recipe, training.group
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)  # each thread has a device of its own
    records = folder if group.is_first else None
    with Recorder(records, logger, keep_checkpoints=recipe.keep_checkpoints) as recorder:
        fit(state, training, recorder=recorder, stop=stop)
