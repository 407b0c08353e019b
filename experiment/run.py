"""From what `main` has parsed to a finished run: devices, folder, resume, training, result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from experiment.data_description import describe_data
from experiment.engine import Data, fit
from experiment.evaluation import evaluate
from experiment.failure import (
    failures_of_a_run,
    noted_in,
    one_sentence_errors,
    refuse_lost_output,
)
from experiment.recipe import Recipe
from experiment.recorder import Recorder, locked
from experiment.resume import (
    choose_start,
    load_weights,
    refuse_missing,
    refuse_unusable_start,
    restore,
)
from experiment.run_folder import begin_folder, describe_result, final_metrics, new_folder
from experiment.training_state import TrainingState
from model import RateModel
from model.batch_norm import synchronise
from util.distributed import Group, process_group, share_of_batch
from util.signals import StopRequest
from util.util import seed_everything, setup_logging


@dataclass(frozen=True)
class Request:
    """What a command asks for beside the network and the recipe.

    arguments: every flag with its value, for config.json.
    identity: those of them that decide what is computed; a run is resumed with the same only.
    resume: a checkpoint, "auto" or None; changed_data: whether the number of training samples may
    be another than the checkpoint's, and the classes others than those of initial weights.
    """

    arguments: dict[str, Any]
    identity: dict[str, Any]
    log_path: Path
    run_name: str
    resume: Path | str | None
    changed_data: bool
    evaluate: Path | None
    device: str | None
    dist_timeout: float  # minutes


def run(
    request: Request,
    recipe: Recipe,
    load_data: Callable[[], Data],
    build_network: Callable[[Data], RateModel],
    on_start: Callable[[Path, Data], None] = lambda folder, data: None,
) -> dict[str, Any]:
    """Train, or evaluate if the request says so; returns the final metrics.

    `on_start` is called with the run folder and the data before the first step, in the first
    process alone; not in an evaluation.

    Raises: SystemExit with a code of `failure` after one sentence on stderr.
    """
    with (
        one_sentence_errors(recipe.batch_sizes),
        process_group(request.device, timeout_minutes=request.dist_timeout) as group,
    ):
        refuse_unusable_paths(request, group)
        seed_everything(recipe.seed)
        torch.backends.cudnn.allow_tf32 = recipe.tf32
        data = load_data()
        net = build_network(data)
        net.to(group.device, memory_format=torch.channels_last)
        if recipe.sync_bn and group.world_size > 1:
            synchronise(net, group)
        check_test_image(net, data, group)
        if request.evaluate is not None:
            return evaluate_file(net, data, recipe, request, group)
        check_smallest_batch(net, data, recipe, group)
        return train(request, recipe, data, net, group, on_start)


def refuse_unusable_paths(request: Request, group: Group) -> None:
    """What is wrong with the paths of a command, before data are read or downloaded.

    Each process reads the checkpoint to evaluate; the first alone reads the one to resume.
    """
    if request.evaluate is not None:
        refuse_missing("evaluate", request.evaluate)
    else:
        group.from_first(lambda: refuse_unusable_start(request.resume, request.log_path))


def check_test_image(net: RateModel, data: Data, group: Group) -> None:
    """Pass one test image through all heads, so that what does not fit is refused at once."""
    image, _ = data.test[0]
    net.eval()
    with torch.no_grad():
        net.head_logits(data.to_input(image[None].to(group.device)))


def check_smallest_batch(net: RateModel, data: Data, recipe: Recipe, group: Group) -> None:
    """ValueError if an epoch would end in a batch that batch norm cannot normalise.

    That is a single image whose last map is a single pixel: its variance does not exist.
    """
    share = share_of_batch(recipe.train_batch_size, group, parts=recipe.accum)
    if (len(data.train) // group.world_size) % share != 1 and share != 1:
        return
    image, _ = data.test[0]
    before = {name: value.clone() for name, value in net.named_buffers()}
    net.train()
    try:
        with torch.no_grad():
            net(data.to_input(image[None].to(group.device)))
        possible = all(value.isfinite().all() for value in net.buffers())
    except ValueError:
        possible = False
    if not possible:
        raise ValueError(
            f"with --train_batch_size {recipe.train_batch_size} an epoch of {len(data.train)} "
            "images ends in a batch of one image per process, whose smallest map is one pixel: "
            "batch norm has nothing to normalise there; choose another batch size"
        )
    for name, value in net.named_buffers():
        value.copy_(before[name])


def evaluate_file(
    net: RateModel, data: Data, recipe: Recipe, request: Request, group: Group
) -> dict[str, Any]:
    """Print and return the accuracy of every head of a checkpoint on the test set."""
    load_weights(net, request.evaluate, request.identity, describe_data(data))
    result = evaluate(
        net, data.test, data.to_input, batch_size=recipe.val_batch_size,
        num_workers=recipe.num_workers, amp=recipe.amp, group=group,
        name=f"the test set of {data.name}",
    )  # fmt: skip
    if group.is_first:
        *branches, own = result["head_top1"]
        for number, accuracy in enumerate(branches, 1):
            print(f"branch {number}: top-1 {accuracy:.2f} %")
        print(f"spiking network: top-1 {own:.2f} %, top-5 {result['top5']:.2f} %, "
              f"loss {result['loss']:.4f}, {result['samples']} test images")  # fmt: skip
        refuse_lost_output()
    return result


def train(
    request: Request,
    recipe: Recipe,
    data: Data,
    net: RateModel,
    group: Group,
    on_start: Callable[[Path, Data], None],
) -> dict[str, Any]:
    """Train in a new run folder, or in that of the run to resume; returns the final metrics."""
    identity, description = request.identity, describe_data(data)
    state = TrainingState(net, recipe, identity, description)
    start = group.from_first(
        lambda: choose_start(
            request.resume,
            net,
            request.log_path,
            identity,
            description,
            changed_data=request.changed_data,
        )
    )
    with StopRequest() as stop:
        folder = start.folder or new_folder(request.log_path, request.run_name, group)
        with locked(folder) if group.is_first else nullcontext():
            logger = setup_logging(folder if group.is_first else None, rank=group.rank)
            checkpoints = group.from_first(start.checkpoints)
            if checkpoints:
                restore(state, checkpoints, group, logger, changed_data=request.changed_data)
            if group.is_first:
                begin_folder(folder, request.arguments, state)
            logger.info(f"run folder {folder}; device {device_name(group)}")
            if not stop.heeds_signals:
                logger.info(
                    "outside the main thread no signal stops the training: KeyboardInterrupt, "
                    "raised in this thread, does, and saves"
                )
            if recipe.accum > 1:
                logger.warning(describe_accumulation(recipe, group, net))
            if request.resume is not None and not checkpoints:
                logger.info(f"--resume {request.resume}: {describe_fresh_start(request)}")
            with noted_in(logger), failures_of_a_run(recipe.batch_sizes):
                if group.is_first:
                    on_start(folder, data)
                work = partial(train_in, group=group, logger=logger, stop=stop)
                stop.shielding(partial(work, folder, recipe, data, state))
                result = group.from_first(lambda: final_metrics(folder, state))
            logger.info(describe_result(result))
            return result


def train_in(
    folder: Path,
    recipe: Recipe,
    data: Data,
    state: TrainingState,
    *,
    group: Group,
    logger: logging.Logger,
    stop: StopRequest,
) -> None:
    """Train `state` to the end, with its records in `folder`."""
    if group.device.type == "cuda":
        torch.cuda.set_device(group.device)  # each thread has a device of its own
    if group.world_size > 1:
        # Buffers are running statistics, which training does not read; `evaluate` shares them.
        state.forward = DistributedDataParallel(
            state.net, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    recorder = Recorder(
        folder if group.is_first else None, logger, keep_checkpoints=recipe.keep_checkpoints
    )
    with recorder:
        fit(state, data, recipe, group=group, recorder=recorder, stop=stop)


def describe_fresh_start(request: Request) -> str:
    """What a run that was to be resumed begins with instead."""
    if request.resume == "auto":
        return "no checkpoint of a run with these arguments yet, training from the beginning"
    return "initial weights of a new run"


def describe_accumulation(recipe: Recipe, group: Group, net: RateModel) -> str:
    """What --accum changes beside memory."""
    part = share_of_batch(recipe.train_batch_size, group, parts=recipe.accum)
    distils = net.branches and recipe.beta
    average = ", and distillation averages over them" if distils else ""
    return (
        f"--accum {recipe.accum}: batch norm sees {part} images at a time{average}, not the "
        f"{part * recipe.accum} that this process has in a step"
    )


def device_name(group: Group) -> str:
    """The device as a person names it."""
    name = f"cpu ({torch.get_num_threads()} threads)"
    if group.device.type == "cuda":
        name = f"{group.device} ({torch.cuda.get_device_name(group.device)})"
    return name if group.world_size == 1 else f"{name}, the first of {group.world_size} processes"
