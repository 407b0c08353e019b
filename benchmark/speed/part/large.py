"""PreAct-ResNet-34 on images of 224 pixels at T = 4 with branches: the largest batch that fits.

The batch is doubled until a step finds no memory, then half as many more than the last that fitted
are tried. As a graph, whose memory stays reserved, a step may find less: it is tried from there
down. The roofline's convolutions are measured on fewer images, in proportion.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import replace

import torch

from benchmark.speed.harness import step_of
from benchmark.speed.measure import Rounds, median_seconds, undivided
from benchmark.speed.part.bandwidth import copy_bandwidth
from benchmark.speed.part.finding import Finding, Line, reason
from benchmark.speed.part.goal import LARGE, verdict
from benchmark.speed.part.setting import Setting, as_the_mains_do
from benchmark.speed.workload import FLOORS, VARIANTS, Variant, Workload

ARCH, CLASSES, T = "preact_resnet34", 1000, 4
NAMES = ("one_pass", "one_pass_fp16")
ROUNDS = Rounds(3)
OF_FLOOR = 128  # images at most: it holds the maps of all convolutions at once


def find(setting: Setting) -> Iterator[Finding]:
    """A row and a verdict for each variant, eager and then as a graph."""
    as_the_mains_do()
    trials = Trials(setting)
    side = trials.workload.size
    yield Line(f"{ARCH}, T = {T}, {side} x {side} pixels, {CLASSES} classes, with branches")
    fitting = {}
    for name in NAMES:
        fitting[name] = trials.largest(VARIANTS[name])
        yield from trials.rows(VARIANTS[name], fitting[name])
    for name, batch in fitting.items():
        variant = VARIANTS[f"{name}_graph"]
        yield from trials.rows(variant, trials.first(variant, down_from(batch)))


def down_from(batch: int) -> Iterator[int]:
    """Batches to try for what holds less memory than that: each three quarters of the last."""
    while batch > 0:
        yield batch
        batch = batch * 3 // 4


class Trials:
    """Steps at one batch after the other.

    seconds: of those that fitted, by variant and batch; errors: why the others did not.
    """

    def __init__(self, setting: Setting):
        pixels, self.smallest, self.cap = setting.size.large
        sizes = {"size": pixels, "num_classes": CLASSES, "width": setting.size.width}
        self.workload = Workload(ARCH, T, self.smallest, **sizes, device=setting.device)
        self.copy = copy_bandwidth(setting)
        self.seconds: dict[tuple[Variant, int], float] = {}
        self.errors: list[str] = []

    def largest(self, variant: Variant) -> int:
        """The largest batch that fits, up to the cap; 0: none does."""
        batch = self.smallest
        while batch <= self.cap and self.fits(variant, batch):
            batch *= 2
        found = batch // 2 if batch > self.smallest else 0
        if found == 0 or batch > self.cap:
            return found
        between = batch * 3 // 4
        return between if self.fits(variant, between) else found

    def first(self, variant: Variant, batches: Iterator[int]) -> int:
        """The first of the batches that fits; 0: none does."""
        return next((batch for batch in batches if self.fits(variant, batch)), 0)

    def fits(self, variant: Variant, batch: int) -> bool:
        """Whether a step can be taken; it is then timed."""
        self.release()
        try:
            step = step_of(variant, replace(self.workload, batch=batch))
            (found,) = median_seconds([undivided(step)], ROUNDS, self.workload.device)
        except Exception as error:  # of memory, or of a library at more than 2^31 values
            self.errors.append(f"{variant.text}, B = {batch}: {reason(error)}")
            return False
        self.seconds[variant, batch] = found["step"]
        return True

    def release(self) -> None:
        """Give back the memory of the steps of before, with the pieces that it is in."""
        gc.collect()
        if self.workload.device != "cpu":
            torch.cuda.empty_cache()

    def rows(self, variant: Variant, batch: int) -> Iterator[Finding]:
        """Why larger batches do not fit; what the largest is, and how fast."""
        yield from map(Line, self.errors)
        self.errors.clear()
        if batch == 0:
            yield Line(f"{variant.text}: no batch fits", ok=False)
            return
        seconds = self.seconds[variant, batch]
        share = self.roofline(variant.amp, min(batch, OF_FLOOR)) * batch / seconds
        yield {
            "step": variant.text,
            "largest batch": batch,
            "ms": 1e3 * seconds,
            "images/s": batch / seconds,
            "share of the roofline": share,
        }
        yield verdict(LARGE, share, f"{variant.text}, B = {batch}: {batch / seconds:.0f} images/s")

    def roofline(self, amp: str, batch: int) -> float:
        """Seconds per image."""
        self.release()
        floor = step_of(VARIANTS[FLOORS[amp]], replace(self.workload, batch=batch))
        (found,) = median_seconds([undivided(floor)], ROUNDS, self.workload.device)
        return floor.roofline(found["step"], self.copy) / batch
