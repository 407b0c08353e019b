"""What can be refused before the first step: paths, images and batches that do not fit."""

from __future__ import annotations

from pathlib import Path

import torch

from experiment.train.folder import run_identity
from experiment.train.task import Data, Request, Training
from model import RateModel
from util.file.named_folder import refuse_unusable
from util.process.distributed import Group


def refuse_unusable_paths(request: Request, group: Group) -> None:
    """What a command could not read or write, before data are read or downloaded.

    Each process reads the checkpoint to evaluate; the first alone reads the one to resume.
    Raises: FileNotFoundError for a missing checkpoint, ValueError for a folder.
    """

    def refuse_unusable_start() -> None:
        folder, flag, resume = request.log_path, "log_path", request.resume
        if isinstance(resume, Path):
            refuse_missing_file("resume", resume)
            if run_identity(resume.parent) is not None:
                folder, flag = resume.parent, "resume"
        refuse_unusable(folder, flag)

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

    That is a single image whose last map is a single pixel: its variance does not exist.
    """
    data, recipe, group = training.data, training.recipe, training.group
    if (len(data.train) // group.world_size) % training.part != 1 and training.part != 1:
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
