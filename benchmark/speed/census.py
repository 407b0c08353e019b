"""Which layers a training step passes, on maps of which size, and what is constant in time.

Found by one pass over two images in two time steps. The floor's convolutions and the bytes of the
roofline are counted from it.

Shapes: T time steps, C channels, H x W pixels; of one sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.speed.workload import Workload
from model.baseline.checkpointed import unchanged_buffers
from model.layer import ConvNorm, LIFLayer, MaxPool
from model.rate_pair import RatePair

IMAGES = 2  # enough for a batch norm on a map of one pixel


class Seen(NamedTuple):
    """A layer of the spiking network, or a convolution or batch norm of a branch.

    source (Ci, H, W): what it reads, `steps` time steps of it: T, or 1 if it is constant in time or
        in a branch, which reads rates.
    result (C, H', W'): what its convolution makes of that; without one, the layer.
    result_steps: time steps of what it hands on; residual_steps: of what it adds, 0 for nothing.
    reads_counts: whether its input are counts of spikes.
    """

    module: nn.Module
    source: tuple[int, ...]
    result: tuple[int, ...]
    steps: int = 1
    result_steps: int = 1
    residual_steps: int = 0
    reads_counts: bool = False

    @property
    def convolution(self) -> nn.Conv2d | None:
        if isinstance(self.module, ConvNorm):
            return self.module.conv
        return self.module if isinstance(self.module, nn.Conv2d) else None

    @property
    def in_branch(self) -> bool:
        return isinstance(self.module, nn.Conv2d | nn.BatchNorm2d)


def layers_seen(net: nn.Module, workload: Workload) -> list[Seen]:
    """The layers in forward order, of a network on the CPU that trains by rates."""
    found: list[Seen] = []
    few = min(workload.T, 2)

    def note(module: nn.Module, inputs: tuple, result: RatePair | Tensor) -> None:
        seen = seen_in_branch if isinstance(result, Tensor) else seen_over_time
        found.append(seen(module, inputs, result))

    def seen_over_time(module: nn.Module, inputs: tuple, result: RatePair) -> Seen:
        x, *residuals = inputs

        def steps_of(pair: RatePair | None) -> int:
            return 0 if pair is None else {1: 1, few: workload.T}[pair.steps]

        source, own = tuple(x.rate.shape[1:]), tuple(result.rate.shape[1:])
        if isinstance(module, ConvNorm):  # a stem may pool what its convolution makes
            own = result_of(module.conv, source)
        added = steps_of(residuals[0]) if residuals else 0
        counts = x.facts.max_count > 0
        return Seen(module, source, own, steps_of(x), steps_of(result), added, counts)

    kinds = ConvNorm | LIFLayer | MaxPool | nn.Conv2d | nn.BatchNorm2d
    handles = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, kinds)]
    image = torch.zeros(IMAGES, workload.in_channels, workload.size, workload.size)
    with torch.no_grad(), unchanged_buffers(net):
        net.train()(image, T=few)
    for handle in handles:
        handle.remove()
    return found


def seen_in_branch(module: nn.Module, inputs: tuple, result: Tensor) -> Seen:
    return Seen(module, tuple(inputs[0].shape[1:]), tuple(result.shape[1:]))


def result_of(conv: nn.Conv2d, source: tuple[int, ...]) -> tuple[int, ...]:
    """(C, H', W') of a convolution without dilation on (Ci, H, W)."""
    geometry = zip(source[1:], conv.kernel_size, conv.stride, conv.padding, strict=True)
    sides = (
        (side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in geometry
    )
    return conv.out_channels, *sides
