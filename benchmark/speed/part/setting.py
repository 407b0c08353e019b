"""Where and how large the parts run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmark.speed.workload import SEED, Workload
from util.util import seed_everything


class Size(NamedTuple):
    """Of networks, batches and measurements.

    T: time steps of the two step tables; the first also of all else.
    growth: time steps against which cost is drawn.
    pixels: side of the square images.
    maps: T, B, C, H, W on which kernels are checked; in "full" divisible by 16 as in training.
    rounds, profiled, launches: timed steps, steps under the profiler, launches of a kernel.
    width: channels of the first stage; None is the paper's.
    """

    batch: int
    T: tuple[int, int]
    growth: tuple[int, ...]
    pixels: int
    maps: tuple[int, int, int, int, int]
    rounds: int
    profiled: int
    launches: int
    width: int | None = None
    arch: str = "resnet18"


SIZES = {
    "full": Size(128, (6, 4), (1, 2, 4, 6, 8, 16, 32), 32, (6, 8, 64, 16, 16), 20, 3, 20),
    "small": Size(4, (2, 1), (1, 2), 16, (2, 2, 16, 8, 8), 1, 1, 2, width=4),
}


@dataclass(frozen=True)
class Setting:
    """Device and size of all parts, the folder of their files, and when this one is stopped.

    deadline: seconds of `time.monotonic`.
    """

    device: str
    size: Size
    folder: Path
    deadline: float

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def workload(self, T: int) -> Workload:
        """A training step with branches."""
        size = self.size
        return Workload(
            size.arch, T, size.batch, True, size.pixels, width=size.width, device=self.device
        )


def as_the_mains_do() -> None:
    """The libraries' settings under which experiment/*/main.py train: see `seed_everything`.

    PyTorch's own defaults let convolutions round to TF32, and no matrix product.
    """
    seed_everything(SEED)
