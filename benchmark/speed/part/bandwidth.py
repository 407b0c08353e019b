"""How fast the kernels move memory: the first stage's maps, beside a plain copy of as many bytes.

Launches are timed on the device alone (`launch`); they rotate among inputs that together exceed the
card's cache. Bytes are those that the equations need: maps read and written once per sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, islice

import torch
from torch import Tensor

from benchmark.speed.part.finding import Finding
from benchmark.speed.part.launch import launched_seconds
from benchmark.speed.part.setting import Setting
from model import kernel
from model.functional import Neuron
from model.kernel import DEFAULT_EXECUTION, Maps, Normalisation, Source

CHANNELS = 64
SETS = 3  # of inputs; of maps over time each is larger than any cache, of the others all together


def find(setting: Setting) -> Iterator[Finding]:
    """A row per kernel and dtype of its maps."""
    T = setting.size.T
    for dtype in (torch.float32, torch.bfloat16):
        over_time = [random_maps(setting, T, dtype) for _ in range(SETS)]
        copy = None
        for name, calls, count in (
            ("copy", *copy_calls(over_time)),
            ("statistics", *statistics_calls(over_time)),
            ("fire", *fire_calls(over_time, T)),  # leaves spikes in their place
            ("backward", *backward_calls(setting, dtype)),
        ):
            speed = bandwidth(setting, calls, count)
            copy = copy or speed
            yield {
                "kernel": name,
                "maps": str(dtype),
                "MB": 1e-6 * count,
                "us": 1e6 * count / speed,
                "GB/s": 1e-9 * speed,
                "share of the copy": speed / copy,
            }


def random_maps(setting: Setting, steps: int, dtype: torch.dtype) -> Tensor:
    """(steps, B, C, H, W), channels_last, on the device."""
    size = setting.size
    maps = torch.randn(
        steps * size.batch, CHANNELS, size.pixels, size.pixels, device=setting.device, dtype=dtype
    )
    return maps.contiguous(memory_format=torch.channels_last).unflatten(0, (steps, size.batch))


def copy_calls(over_time: list[Tensor]) -> tuple[list[Callable], int]:
    """Each set to its neighbour; reads and writes T maps."""
    neighbours = over_time[1:] + over_time[:1]
    pairs = zip(over_time, neighbours, strict=True)
    return [lambda x=x, y=y: y.copy_(x) for x, y in pairs], 2 * over_time[0].nbytes


def fire_calls(over_time: list[Tensor], T: int) -> tuple[list[Callable], int]:
    """Normalise and fire in place, as training does; reads and writes T maps, writes two as they
    are kept, the rate in fp32 and its counts as bytes."""
    scale = torch.rand(CHANNELS, device=over_time[0].device)

    def call(current: Tensor) -> None:
        source = Source(Maps(current, scale, scale), reusable=True)
        kernel.fire(source, Neuron(), T, DEFAULT_EXECUTION)

    kept = over_time[0][0]
    count = 2 * over_time[0].nbytes + 2 * kept.nbytes + (4 + 1) * kept.numel()
    return [lambda x=x: call(x) for x in over_time], count


def statistics_calls(over_time: list[Tensor]) -> tuple[list[Callable], int]:
    """Mean and variance; reads T maps once."""
    calls = [lambda x=x: kernel.batch_statistics(x.flatten(0, 1)) for x in over_time]
    return calls, over_time[0].nbytes


def backward_calls(setting: Setting, dtype: torch.dtype) -> tuple[list[Callable], int]:
    """Of norm and neurons, maps kept in `dtype`; reads three maps twice and writes the source's
    gradient in fp32, the current's in `dtype`."""
    sets = [
        [random_maps(setting, 1, d)[0] for d in (torch.float32, dtype, dtype)] for _ in range(SETS)
    ]
    values = torch.rand(CHANNELS, device=setting.device)
    norm = Normalisation(values, values, values, from_batch=True)

    def call(grad: Tensor, eligibility: Tensor, y: Tensor) -> None:
        kernel.fire_backward(grad, eligibility, y, norm, True, DEFAULT_EXECUTION, dtype=dtype)

    grad, _, y = sets[0]
    count = sum(2 * m.nbytes for m in sets[0]) + grad.nbytes + y.nbytes
    return [lambda maps=maps: call(*maps) for maps in sets], count


def bandwidth(setting: Setting, calls: list[Callable[[], None]], count: int) -> float:
    """Bytes per second of calls that move `count` bytes each, launched in rotation."""
    launches = setting.size.launches

    def launch_all() -> None:
        for call in islice(cycle(calls), launches):
            call()

    return count * launches / launched_seconds(launch_all, setting.device)


def copy_bandwidth(setting: Setting) -> float:
    """Bytes per second that a copy of fp32 maps over time reads and writes."""
    over_time = [random_maps(setting, setting.size.T, torch.float32) for _ in range(SETS)]
    return bandwidth(setting, *copy_calls(over_time))
