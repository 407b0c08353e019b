"""The clock beside a long task: its speed, a progress bar, and how long the rest takes."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import torch

from util.process.distributed import Group

LINES = 10  # of a countdown in all, where no bar is drawn


class Stopwatch:
    """Throughput, waiting for data and memory of an epoch, measured around its loop.

    Started where it is made; `timed` goes around the batches, `count` follows each step.
    """

    def __init__(self, group: Group):
        self.group = group
        self.images = 0
        self.waited = 0.0
        self.begun = self.ended = time.perf_counter()
        if group.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(group.device)

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same batches; the time until each is there counts as waiting for data."""
        iterator = iter(batches)
        while True:
            asked = time.perf_counter()
            batch = next(iterator, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch

    def count(self, images: int) -> None:
        self.images += images
        self.ended = time.perf_counter()

    def report(self) -> dict[str, float]:
        """Seconds, images per second over all processes and per device, share of waiting, MiB.

        Memory is what was reserved for CUDA tensors at most in this epoch (what a graph replays in
        belongs to no tensor), or this process's resident memory at its highest since it started.
        """
        seconds = max(self.ended - self.begun, 1e-9)
        images = int(self.group.sum(torch.tensor(self.images)))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        if self.group.device.type == "cuda":
            memory = torch.cuda.max_memory_reserved(self.group.device) / 2**20
        return {
            "seconds": seconds,
            "images_per_second": images / seconds,
            "images_per_second_per_device": images / seconds / self.group.world_size,
            "data_wait": self.waited / seconds,
            "peak_memory_mib": memory,
        }


class StepBar:
    """A progress bar over `total` steps of which some are `done`, with the remaining time.

    Drawn on a terminal alone, with `show`, and if the package progress is there. Use with
    `contextlib.closing`, so that an error finds a clean line.
    """

    def __init__(self, title: str, total: int, done: int = 0, *, show: bool = True):
        self._bar = None
        is_terminal = getattr(sys.stderr, "isatty", bool)()  # a notebook's stream may lack it
        if not (show and is_terminal and total > 0):
            return
        with suppress(ModuleNotFoundError):
            from progress.bar import Bar

            suffix = "%(index)d/%(max)d steps, %(eta_td)s left"
            # A hidden cursor would stay hidden after a kill.
            options = {"suffix": suffix, "file": sys.stderr, "hide_cursor": False}
            self._bar = Bar(title, max=total, **options)
            self._bar.index = done  # Bar.goto would count them in the speed
            self._bar.update()

    @property
    def is_drawn(self) -> bool:
        return self._bar is not None

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.next()

    def close(self) -> None:
        """Leave an empty line to what is printed next."""
        if self._bar is not None:
            self._bar.writeln("")
            sys.stderr.write("\r")
            sys.stderr.flush()


class Countdown(StepBar):
    """A bar where one is drawn; elsewhere a line of text, given to `report`, every tenth part."""

    def __init__(self, title: str, total: int, report: Callable[[str], None]):
        super().__init__(title, total)
        self.title, self.total, self.report = title, total, report
        self.done = 0
        self.begun = time.monotonic()

    def advance(self) -> None:
        super().advance()
        self.done += 1
        interval = -(-self.total // LINES)
        if not self.is_drawn and (self.done % interval == 0 or self.done == self.total):
            left = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
            self.report(f"{self.title}: {self.done:,} of {self.total:,}, {left:.0f} s left")
