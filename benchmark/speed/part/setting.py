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

    T: time steps; growth: those against which cost is drawn.
    pixels: side of the square images.
    maps: T, B, C, H, W on which kernels are checked; in "full" divisible by 16 as in training.
    rounds, profiled, launches: timed steps, steps under the profiler, launches of a kernel.
    large: side of large images, the first batch of them that is tried and the last.
    epoch: images for training and for testing.
    width: channels of the first stage; None is the paper's.
    """

    batch: int
    T: int
    growth: tuple[int, ...]
    pixels: int
    maps: tuple[int, int, int, int, int]
    rounds: int
    profiled: int
    launches: int
    large: tuple[int, int, int]
    epoch: tuple[int, int]
    width: int | None = None
    arch: str = "resnet18"


SIZES = {
    "full": Size(
        batch=128,
        T=6,
        growth=(1, 2, 4, 6, 8, 16, 32),
        pixels=32,
        maps=(6, 8, 64, 16, 16),
        rounds=20,
        profiled=3,
        launches=20,
        large=(224, 64, 4096),
        epoch=(50_000, 10_000),
    ),
    "small": Size(
        batch=4,
        T=2,
        growth=(1, 2),
        pixels=16,
        maps=(2, 2, 16, 8, 8),
        rounds=1,
        profiled=1,
        launches=2,
        large=(32, 2, 4),
        epoch=(16, 8),
        width=16,  # not narrower: see `Convolution.unstrided`, which the two-stage network has not
    ),
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
