"""--tune: how long a step of a training takes on this machine in each way of computing it.

Which is the quickest hangs on the processor, on the compiler, on the network and on how often its
neurons fire, so it is measured, on the training's own first batch. It is said, not chosen: a run
that chose for itself would be another one on the next machine, or on the same one when it is busy.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import torch

from experiment.train.batches import StepBatches
from experiment.train.failure import NonFiniteError, RunFailed
from experiment.train.log_line import describe_device
from experiment.train.loop import choose_step, step_context
from experiment.train.recipe import Recipe
from experiment.train.state import TrainingState
from experiment.train.step import Part
from experiment.train.task import Data, Training
from model import RateModel
from util.figure import markdown_table
from util.process.distributed import Group
from util.util import seed_everything

ENOUGH = 2.0  # seconds of timed steps in each way
LEAST = 3  # timed steps, however long they take
NOISE = 0.1  # of a step's time, from which on a drift of the machine's speed is mentioned


class KernelChoice(NamedTuple):
    """A way to compute a training.

    words: its flags; exact: whether in fp32; network: makes a new one; recipe: of its training.
    """

    words: str
    exact: bool
    network: Callable[[], RateModel]
    recipe: Recipe


class Timing(NamedTuple):
    """Seconds: of the first step, in which kernels are compiled or recorded, and of a later one."""

    first: float
    step: float

    def of(self, steps: int) -> float:
        """Seconds of a training of so many steps."""
        return self.first + (steps - 1) * self.step


def tune(ways: Sequence[KernelChoice], data: Data, group: Group) -> dict[str, float]:
    """Time every way, the first again at the end, and print what pays; seconds per step, by words.

    Raises: ValueError for several processes; RunFailed.
    """
    if group.world_size > 1:
        raise ValueError("--tune measures one process: start it without torchrun")
    training = Training(data, ways[0].recipe, group)
    with closing(StepBatches(training)) as batches:
        steps = batches.steps * training.recipe.num_epoch
        parts = next(batches.of_epoch(0, 0))
    images = sum(len(labels) for _, labels in parts)
    print(f"{describe_device(group)}; steps of {images} images, {steps:,} of them in all")
    try:
        *timings, again = (time_steps(way, training, parts, images) for way in (*ways, ways[0]))
    except NonFiniteError as error:
        raise RunFailed(str(error)) from error
    print(table_of(ways, timings, steps))
    for line in advice(ways, timings, again, steps):
        print(line)
    return {way.words: timing.step for way, timing in zip(ways, timings, strict=True)}


def time_steps(way: KernelChoice, training: Training, parts: Sequence[Part], images: int) -> Timing:
    """Steps of a new network on the same batch, always the same weights at first, always at T."""
    group, recipe = training.group, replace(way.recipe, T_min=None)
    gc.collect()
    if group.device.type == "cuda":
        torch.cuda.empty_cache()  # what the way before had reserved
    seed_everything(recipe.seed)
    net = way.network().to(group.device, memory_format=torch.channels_last).train()
    state = TrainingState(net, recipe, {})
    context = step_context(state, recipe, group, to_input=training.data.to_input)
    step = choose_step(context, recipe, images)
    progress = torch.zeros((), dtype=torch.float64, device=group.device)

    def timed() -> float:
        begun = time.perf_counter()
        step(parts, progress)
        context.update.settle()  # waits for a GPU
        return time.perf_counter() - begun

    first, seconds = timed(), []
    while len(seconds) < LEAST or sum(seconds) < ENOUGH:
        seconds.append(timed())
    return Timing(first, median(seconds))


def table_of(ways: Sequence[KernelChoice], timings: Sequence[Timing], steps: int) -> str:
    header = ["flags", "ms per step", "times plain", "first step, s", "whole training, min"]
    rows = [
        [
            named(way),
            f"{1e3 * timing.step:.1f}",
            f"{timing.step / timings[0].step:.2f}",
            f"{timing.first:.1f}",
            f"{timing.of(steps) / 60:.1f}",
        ]
        for way, timing in zip(ways, timings, strict=True)
    ]
    return markdown_table(header, rows)


def advice(
    ways: Sequence[KernelChoice], timings: Sequence[Timing], again: Timing, steps: int
) -> Iterator[str]:
    """What to give, what not, and how far to trust it."""
    plain = timings[0].of(steps)
    seconds = [(way, timing.of(steps)) for way, timing in zip(ways, timings, strict=True)]
    best, quickest = min((pair for pair in seconds if pair[0].exact), key=lambda pair: pair[1])
    yield f"quickest in fp32: {named(best)}, {quickest / plain:.2f} of the time of the plain way"
    rounding = [f"{named(way)} ({s / plain:.2f})" for way, s in seconds if s < quickest]
    if rounding:
        yield f"quicker still, with gradients or more in 16 bits: {', '.join(rounding)}"
    slower = [f"{named(way)} ({s / plain:.2f})" for way, s in seconds if s > plain]
    if slower:
        yield f"slower here than the plain way: {', '.join(slower)}"
    drift = again.step / timings[0].step - 1
    if abs(drift) > NOISE:
        yield (
            f"the plain way took {abs(drift):.0%} {'more' if drift > 0 else 'less'} when it was "
            "timed again at the end: differences below that say nothing; measure on an idle machine"
        )


def named(way: KernelChoice) -> str:
    return way.words or "plain (none of these flags)"
