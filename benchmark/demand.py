"""How many images per second a training step takes: what its input has to bring.

A module of `input.py`, not a command.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count

import torch

from benchmark.contestant import VARIANTS, Contestant, Workload
from benchmark.measure import interleaved_seconds, median
from util.batch_augment import BatchAugmentation, KeyedDataset, KeyedImages

ROUNDS = 5


def rate_of_step(workload: Workload) -> float:
    """Images per second of the whole step: forward, loss, backward, update."""
    step = Contestant(VARIANTS["one_pass"], workload).step
    return _rate_of(step, images=workload.batch, device=workload.device)


def rate_of_augmentation(
    augmentation: BatchAugmentation, images: KeyedDataset, *, batch: int, device: str
) -> float:
    """Images per second of augmenting `batch` images at once on the device."""
    indices = torch.arange(batch) % len(images)
    pixels = torch.stack([images[0, index][0].images for index in indices.tolist()]).to(device)
    epochs = count()

    def augment() -> None:
        augmentation(KeyedImages(pixels, torch.full((batch,), next(epochs)), indices))

    return _rate_of(augment, images=batch, device=device)


def _rate_of(call: Callable[[], None], *, images: int, device: str) -> float:
    """Images per second of a call that works on so many, the median of ROUNDS."""
    (seconds,) = interleaved_seconds([call], repeats=ROUNDS, warmup=1, device=device)
    return images / median(seconds)


def one_after_the_other(*rates: float) -> float:
    """Images per second of several things that are done to each image in turn."""
    return 1 / sum(1 / rate for rate in rates)


def workers_to_feed(taken: float, made: float) -> int:
    """How many processes that make `made` images per second keep up with a step's `taken`."""
    return math.ceil(taken / made)


def describe(workload: Workload) -> str:
    """The step in words."""
    width = "as published" if workload.width is None else workload.width
    return (
        f"{workload.arch}, {workload.size} x {workload.size} pixels, width {width}, "
        f"T = {workload.T}, {workload.batch} images, on {workload.device}"
    )
