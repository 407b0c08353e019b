"""What can be refused before the first step: flags, paths, images and batches that do not fit."""

from __future__ import annotations

from pathlib import Path

import torch

from experiment.flag.identity import differences
from experiment.train.folder import run_identity
from experiment.train.recipe import Recipe
from experiment.train.resume import choose_start
from experiment.train.task import Data, Request, Training
from experiment.train.time_steps import TimeSteps
from model import RateModel
from model.registry import teacher_named
from util.file.named_folder import refuse_unusable
from util.process.distributed import Group

# Beside what is computed: what decides how often processes exchange something. A path, which
# the first process reads alone, may be another to each.
IN_STEP = ("val_batch_size", "eval_every", "checkpoint_every")
ALONE = ("init",)


def refuse_other_flags(request: Request, group: Group) -> None:
    """ValueError in a process whose flags would part it from the first.

    One that does not see a checkpoint, or config.json beside it, has not taken its flags from it.
    """
    own = request.identity | {name: request.arguments[name] for name in IN_STEP}
    first = group.share(own)
    found = differences(first | {name: own[name] for name in ALONE}, own, wanted_as="here")
    if found:
        raise ValueError(
            f"process {group.rank} has other flags than the first, which has {', '.join(found)}: "
            "give them on the command line, or make the checkpoint and its config.json visible to "
            "every process under the same path"
        )


def refuse_contradictions(request: Request, recipe: Recipe) -> None:
    """ValueError for a flag that another one forbids, unless it is without effect."""
    T, teacher = request.arguments["T"], teacher_named(recipe.teacher)
    problems = {}
    if recipe.warmup > recipe.num_epoch:
        problems["warmup"] = (
            f"{recipe.warmup:g} is longer than the training, --num_epoch {recipe.num_epoch}: "
            "expected at most as many epochs"
        )
    if recipe.T_min is not None and recipe.T_min > T:
        problems["T_min"] = f"{recipe.T_min} is above --T {T}: expected a number from 1 to it"
    if teacher.averaged and recipe.ema is None:
        problems["teacher"] = (
            f"{recipe.teacher} is the network with averaged weights, and none are averaged: give "
            "--ema DECAY too, such as --ema 0.999"
        )
    for name, problem in problems.items():
        if name not in request.silent:
            raise ValueError(f"--{name} {problem}")


def refuse_unusable_paths(request: Request, group: Group) -> None:
    """What a command could not read or write, before data are read or downloaded.

    Each process reads the checkpoint to evaluate; the first alone reads the one to resume.
    Initial weights need not be there any more where a run goes on. What has no effect is not
    looked at.
    Raises: FileNotFoundError for a missing checkpoint, ValueError for a folder.
    """

    def refuse_unusable_start() -> None:
        resume, init = request.resume, request.init
        if isinstance(resume, Path):
            refuse_missing_file("resume", resume)
            run_identity(resume.parent)
            refuse_unusable(resume.parent, "resume")
        elif "log_path" not in request.silent:
            refuse_unusable(request.log_path, "log_path")
        if init is None or init.exists() or "init" in request.silent:
            return
        if not choose_start(request).checkpoints():
            refuse_missing_file("init", init)

    if request.evaluate is not None:
        refuse_missing_file("evaluate", request.evaluate)
    else:
        group.from_first(refuse_unusable_start)


def refuse_missing_file(flag: str, path: Path) -> None:
    """FileNotFoundError, with the flag that names it, for a checkpoint that is not there."""
    if not path.exists():
        raise FileNotFoundError(f"--{flag}: {path} does not exist")


@torch.no_grad()
def check_test_image(net: RateModel, data: Data, group: Group) -> None:
    """Pass one test image through all heads, so that what does not fit is refused at once."""
    image, _ = data.test[0]
    net.eval()
    net.head_logits(data.to_input(image[None].to(group.device)))


def check_smallest_batch(net: RateModel, training: Training) -> None:
    """ValueError if an epoch would end in a batch that batch norm cannot normalise.

    That is a single image whose last map is a single pixel: its variance does not exist. Looked at
    with the fewest time steps that a training step may have.
    """
    data, recipe, group = training.data, training.recipe, training.group
    if (len(data.train) // group.world_size) % training.part != 1 and training.part != 1:
        return
    image, _ = data.test[0]
    before = {name: value.clone() for name, value in net.named_buffers()}
    fewest = recipe.T_min or net.T
    net.train()
    try:
        with torch.no_grad():
            x = data.to_input(image[None].to(group.device))
            net(TimeSteps(fewest, net.T, recipe.seed).cut(x, fewest), T=fewest)
        possible = all(value.isfinite().all() for value in net.buffers())
    except ValueError:
        possible = False
    if not possible:
        raise ValueError(
            f"with --train_batch_size {recipe.train_batch_size} an epoch of {len(data.train)} "
            "images ends in a batch of one image per process, whose smallest map is one pixel: "
            f"batch norm has nothing to normalise there at {fewest} of {net.T} time steps; choose "
            "another batch size"
        )
    for name, value in net.named_buffers():
        value.copy_(before[name])
