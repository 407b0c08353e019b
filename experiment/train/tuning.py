"""--tune: how long a step of a training takes on this machine in each way of computing it.

Which is the quickest hangs on the processor, on the compiler, on the network and on how often its
neurons fire, so it is measured, on the training's own first batch. It is said, not chosen: a run
that chose for itself would be another one on the next machine, or on the same one when it is busy.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import NamedTuple

import torch

from experiment.train.batches import StepBatches
from experiment.train.failure import (
    NonFiniteError,
    RunFailed,
    one_sentence_errors,
    refuse_lost_output,
    sentence_of,
)
from experiment.train.log_line import describe_device
from experiment.train.loop import choose_step, step_context
from experiment.train.recipe import Recipe
from experiment.train.state import TrainingState
from experiment.train.step import Part
from experiment.train.task import Data, Training
from model import RateModel
from model.kernel import compiled
from model.kernel.sparse import library
from util.process.distributed import Group
from util.util import seed_everything

ENOUGH = 2.0  # seconds of timed steps in each way
NOISE = 0.1  # of a step's time, from which on a drift of the machine's speed is mentioned
PLAIN = ""  # the words of the way that takes no flag
AT_T = (
    "timed at --T alone: with --T_min most steps take less, and --compile and graphs pay their "
    "first step again for each number of time steps"
)


class KernelChoice(NamedTuple):
    """A way to compute a training.

    words: its flags, as on a command line; network: makes a new one; recipe: of its training.
    """

    words: str
    network: Callable[[], RateModel]
    recipe: Recipe


class Timing(NamedTuple):
    """Seconds: of the first step, in which kernels are compiled or recorded, and of a later one."""

    first: float
    step: float

    def of(self, steps: int) -> float:
        """Seconds of a training of so many steps."""
        return self.first + (steps - 1) * self.step


Timings = Mapping[str, Timing]  # by words


def tune(ways: Sequence[KernelChoice], data: Data, group: Group) -> dict[str, float]:
    """Time each way, the first, plain one again at the end, and print what pays.

    Returns: seconds per step, by words. Raises: SystemExit after one sentence.
    """
    plain = ways[0]
    with one_sentence_errors(plain.recipe.batch_sizes, interrupted="stopped before the end"):
        if group.world_size > 1:
            raise ValueError("--tune measures one process: start it without torchrun")
        training = Training(data, plain.recipe, group)
        with closing(StepBatches(training)) as batches:
            steps = batches.steps * plain.recipe.num_epoch
            parts = next(batches.of_epoch(0, 0))
        images = sum(len(labels) for _, labels in parts)
        print(f"{describe_device(group)}; steps of {images} images, {steps:,} of them in all")
        if plain.recipe.T_min is not None:
            print(AT_T)
        timings: dict[str, Timing] = {}
        for way in ways:
            if is_possible(way, group) and worth_trying(way, ways, timings):
                timing = try_steps(way, training, parts, steps)
                if timing is not None and is_possible(way, group):
                    timings[way.words] = timing
        if not timings:
            raise RunFailed("no way could be timed")
        again = try_steps(plain, training, parts, steps) if PLAIN in timings else None
        for line in advice(timings, again, steps):
            print(line)
        refuse_lost_output()
    return {words: timing.step for words, timing in timings.items()}


def is_possible(way: KernelChoice, group: Group) -> bool:
    """Whether what its flags ask for can be compiled, as far as that is known.

    The operators of --sparse are compiled here: they are kept, and no part of a first step.
    """
    if "--sparse" in way.words and not library.is_available():
        return False
    return "--compile" not in way.words or group.device.type not in compiled.UNCOMPILED


def worth_trying(way: KernelChoice, ways: Sequence[KernelChoice], timings: Timings) -> bool:
    """Whether its --amp alone worked, and was quicker than none."""
    alone = next(other for other in ways if other.recipe.amp == way.recipe.amp)
    if way is alone:
        return True
    if alone.words not in timings or PLAIN not in timings:
        return False
    return timings[alone.words].step <= timings[PLAIN].step


def try_steps(
    way: KernelChoice, training: Training, parts: Sequence[Part], steps: int
) -> Timing | None:
    """`time_steps`, printed; None, and why, where memory or the range of numbers does not do."""
    try:
        timing = time_steps(way, training, parts)
    except (NonFiniteError, RuntimeError, MemoryError) as error:
        finite = not isinstance(error, NonFiniteError)
        reason = sentence_of(error, way.recipe.batch_sizes) if finite else str(error)
        if reason is None:
            raise
        print(f"{named(way.words)}: {reason}", flush=True)
        return None
    print(
        f"{named(way.words)}: {1e3 * timing.step:.1f} ms per step, the first {timing.first:.1f} s; "
        f"the whole training {timing.of(steps) / 60:.1f} min",
        flush=True,
    )
    return timing


def time_steps(way: KernelChoice, training: Training, parts: Sequence[Part]) -> Timing:
    """Steps of a new network on the same batch, always at T and at the same weights."""
    group, recipe = training.group, replace(way.recipe, T_min=None)
    gc.collect()
    if "--compile" in way.words:
        torch._dynamo.reset()  # what the way before had compiled
    if group.device.type == "cuda":
        torch.cuda.empty_cache()  # what the way before had reserved
    seed_everything(recipe.seed)
    net = way.network().to(group.device, memory_format=torch.channels_last).train()
    state = TrainingState(net, recipe, {})
    context = step_context(state, recipe, group, to_input=training.data.to_input)
    context.update.follow_schedule(0.0)  # all is computed, and no weight moves
    step = choose_step(context, recipe, sum(len(labels) for _, labels in parts))
    progress = torch.zeros((), dtype=torch.float64, device=group.device)

    def timed() -> float:
        begun = time.perf_counter()
        step(parts, progress)
        context.update.settle()  # waits for a GPU
        return time.perf_counter() - begun

    first, seconds = timed(), [timed()]
    while sum(seconds) < ENOUGH:
        seconds.append(timed())
    return Timing(first, median(seconds))


def advice(timings: Timings, again: Timing | None, steps: int) -> Iterator[str]:
    """What to give, what not, and how far to trust it; again: the plain way's, at the end."""
    seconds = {words: timing.of(steps) for words, timing in timings.items()}
    if again is None:
        quickest = min(seconds, key=seconds.__getitem__)
        yield f"quickest of those that could be timed: {named(quickest)}"
        return
    # The first way of all paid what a process pays once.
    first = min(timings[PLAIN].first, again.first)
    plain = seconds[PLAIN] = timings[PLAIN]._replace(first=first).of(steps)
    in_fp32 = [words for words in seconds if "--amp" not in words]
    best = min(in_fp32, key=seconds.__getitem__)

    def listed(chosen: Sequence[str]) -> str:
        return ", ".join(f"{named(words)} ({seconds[words] / plain:.2f})" for words in chosen)

    yield f"quickest in fp32, and its time over the plain way's: {listed([best])}"
    quicker = [words for words in seconds if seconds[words] < seconds[best]]
    if quicker:
        yield f"quicker still, with gradients or more in 16 bits: {listed(quicker)}"
    slower = [words for words in seconds if seconds[words] > plain]
    if slower:
        yield f"slower here than the plain way: {listed(slower)}"
    drift = again.step / timings[PLAIN].step - 1
    if abs(drift) > NOISE:
        yield (
            f"the plain way took {abs(drift):.0%} {'more' if drift > 0 else 'less'} when it was "
            "timed again at the end: differences below that say nothing; measure on an idle machine"
        )


def named(words: str) -> str:
    return words or "plain (none of these flags)"
