"""The clock of an epoch: its speed, its waiting for data, its memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from util.process.distributed import Group


class Stopwatch:
    """Throughput, waiting for data and memory of an epoch, measured around its loop.

    Started where it is made; `timed` goes around the batches, `count` follows each step. What comes
    after the last step, such as an evaluation, is not measured.

    before: what `count` returned last, if the epoch goes on in another process.
    """

    def __init__(self, group: Group, before: Sequence[float] = ()):
        self.group = group
        images, seconds, cpu_seconds, self.waited = before or (0, 0.0, 0.0, 0.0)
        self.images = images / group.world_size
        self.begun = time.perf_counter() - seconds
        self.cpu_begun = time.process_time() - cpu_seconds
        self.count(0)
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

    def count(self, images: int) -> tuple[float, ...]:
        """A step with so many images of this process has ended; returns what was measured so far.

        That is images, of all processes; seconds, those of the processor, and those of waiting.
        """
        self.images += images
        self.seconds = time.perf_counter() - self.begun
        self.cpu_seconds = time.process_time() - self.cpu_begun
        of_all = self.images * self.group.world_size
        return of_all, self.seconds, self.cpu_seconds, self.waited

    def report(self) -> dict[str, float]:
        """Seconds, images per second over all processes and per device, share of waiting, MiB.

        cpu_seconds: of this process, all its threads: unlike the clock's, other programs on the
        same processor hardly change them.

        Memory is what was reserved for CUDA tensors at most in this epoch (what a graph replays in
        belongs to no tensor), or this process's resident memory at its highest since it started.
        """
        seconds = max(self.seconds, 1e-9)
        images = float(self.group.sum(torch.tensor(self.images, dtype=torch.float64)))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        if self.group.device.type == "cuda":
            memory = torch.cuda.max_memory_reserved(self.group.device) / 2**20
        return {
            "seconds": seconds,
            "cpu_seconds": self.cpu_seconds,
            "images_per_second": images / seconds,
            "images_per_second_per_device": images / seconds / self.group.world_size,
            "data_wait": self.waited / seconds,
            "peak_memory_mib": memory,
        }
