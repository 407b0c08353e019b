"""Epochs of experiment/cifar/main.py end to end, over the time of their steps.

Images are random numbers, as many as CIFAR-10 has, loaded and augmented as the main does by
default; flags are the main's defaults. An epoch is all that it does between two records: loading,
steps, evaluation, checkpoint. The first holds the start as well: workers, kernels, recording.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from unittest.mock import patch

import torch
from torch.utils.data import TensorDataset

from benchmark.speed.harness import TrainingStep
from benchmark.speed.measure import Rounds, median_seconds, undivided
from benchmark.speed.part.finding import Finding, Line
from benchmark.speed.part.goal import EPOCH, verdict
from benchmark.speed.part.setting import Setting, as_the_mains_do
from benchmark.speed.workload import VARIANTS
from experiment.cifar.main import main
from experiment.train import loop
from util import data
from util.image.image_sets import Images

EPOCHS = 2
AUGMENTATIONS = {  # of the epochs: the main's flags
    "crop and flip": ["--no-auto_aug", "--no-cutout"],
    "CIFAR's: crop, flip, AutoAugment, Cutout": ["--auto_aug", "--cutout"],
}


def find(setting: Setting) -> Iterator[Finding]:
    """The step's time, then a row per epoch; a verdict on the last of each augmentation."""
    as_the_mains_do()
    name = "one_pass_graph" if setting.on_gpu else "one_pass"
    step = TrainingStep(VARIANTS[name], setting.workload(setting.size.T))
    (timed,) = median_seconds([undivided(step)], Rounds(setting.size.rounds), setting.device)
    steps = math.ceil(setting.size.epoch[0] / setting.size.batch)
    of_steps = steps * timed["step"]
    yield Line(f"{steps} steps of {1e3 * timed['step']:.2f} ms are {of_steps:.2f} s")
    del step
    for augmentation, flags in AUGMENTATIONS.items():
        for epoch, seconds in enumerate(seconds_of_epochs(setting, flags)):
            ratio = seconds / of_steps
            yield {
                "augmentation": augmentation,
                "epoch": epoch,
                "s": seconds,
                "over its steps": ratio,
            }
        yield verdict(EPOCH, ratio, f"augmentation {augmentation}; {seconds:.2f} s")


def seconds_of_epochs(setting: Setting, flags: list[str]) -> list[float]:
    """End to end, of a run of the main."""
    size = setting.size
    sizes = {"T": size.T, "train_batch_size": size.batch, "width": size.width, "num_epoch": EPOCHS}
    flags = [*flags, "--branch_pool", "global"]  # as the step has it
    for name, value in sizes.items():
        flags += [] if value is None else [f"--{name}", str(value)]
    finish, ends = loop.finish_epoch, [time.perf_counter()]

    def noting(*arguments: object) -> None:
        finish(*arguments)
        ends.append(time.perf_counter())

    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(data, "make_fake_data", lambda: random_images(setting)),
        patch.object(loop, "finish_epoch", noting),
    ):
        workers = [] if setting.on_gpu else ["--num_workers", "0"]
        place = ["--device", setting.device, "--log_path", folder]
        main(["--dataset", "FakeData", *flags, *place, *workers])
    return [end - begun for begun, end in pairwise(ends)]


def random_images(setting: Setting) -> Images:
    """Of 10 classes, as bytes in memory."""
    shape, sets = (3, setting.size.pixels, setting.size.pixels), []
    for count in setting.size.epoch:
        images = torch.randint(256, (count, *shape), dtype=torch.uint8)
        sets.append(TensorDataset(images, torch.randint(10, (count,))))
    return Images(*sets, tuple(map(str, range(10))))
