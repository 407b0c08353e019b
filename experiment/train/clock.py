"""The clock of an epoch: its speed, its waiting for data, its memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from util.process.distributed import Group


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
