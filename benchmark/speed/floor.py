"""The floor under a training step: the network's convolutions and nothing else.

Each convolution of the spiking network runs forward on T*B maps (the stem of a static image on B)
and backward once on B maps; those of the branches, if it has any, run once on B maps either way.
All are dense, in channels_last layout. No method that runs these convolutions is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.speed.measure import MEBIBYTE, Stage, stage_peaks
from benchmark.speed.workload import Workload
from model.convolution import Convolution, convolution_backward, subsample


class _Convolution(NamedTuple):
    """train (T*B or B, Ci, H, W), rate (B, Ci, H, W), grad (B, C, H', W')."""

    train: Tensor
    rate: Tensor
    grad: Tensor
    operation: Convolution
    needs_input: bool


class ConvolutionFloor:
    """The convolutions of a network on random spikes, forward and backward.

    low: whether they run in bfloat16. Called, it takes the step, as a `harness.TrainingStep` does.
    """

    def __init__(self, net: nn.Module, workload: Workload, *, low: bool = False):
        self.workload = workload
        self.dtype = torch.bfloat16 if low else torch.float32
        in_branches = set(net.branches.modules())
        self.convolutions = [
            self._prepare(conv, shape, is_stem=index == 0, once=index == 0 or conv in in_branches)
            for index, (conv, shape) in enumerate(convolution_shapes(net, workload))
        ]

    def _prepare(
        self, conv: nn.Conv2d, shape: tuple[int, int, int], *, is_stem: bool, once: bool
    ) -> _Convolution:
        batch, device = self.workload.batch, self.workload.device
        steps = 1 if once else self.workload.T
        weight = self._channels_last(conv.weight.detach())
        strides, operation = Convolution.of(conv)._replace(weight=weight, bias=None).unstrided()
        spikes = torch.rand(steps * batch, *shape, device=device) < 0.2
        rates = torch.rand(batch, *shape, device=device)
        train, rate = (self._channels_last(subsample(maps, strides)) for maps in (spikes, rates))
        grad = torch.rand_like(operation(rate))
        return _Convolution(train, rate, grad, operation, needs_input=not is_stem)

    def _channels_last(self, maps: Tensor) -> Tensor:
        maps = maps.to(self.workload.device, self.dtype)
        return maps.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self) -> None:
        for c in self.convolutions:
            c.operation(c.train)
        for c in reversed(self.convolutions):
            needs = (c.needs_input, True, False)
            convolution_backward(c.grad, c.rate, c.operation.weight, c.operation.geometry, needs)

    def stages(self) -> Iterator[Stage]:
        yield "convolutions", self

    def peaks(self) -> dict[str, int]:
        return stage_peaks(self.stages(), self.workload.device)

    def kept_bytes(self) -> None:
        """There is no graph."""

    def firing_rate(self) -> None:
        """The spikes are random."""

    def multiply_adds(self) -> int:
        """Multiply-add operations of one step; half its floating-point operations."""
        total = 0
        for c in self.convolutions:
            per_sample = c.grad[0].numel() * c.operation.weight[0].numel()
            forward, batch = len(c.train), len(c.rate)
            total += per_sample * (forward + batch * (2 if c.needs_input else 1))
        return total

    def bytes_moved(self) -> int:
        """Bytes read and written if each map and weight moves once per convolution that uses it."""
        total = 0
        for c in self.convolutions:
            weight = c.operation.weight.nbytes
            out = c.grad.nbytes // len(c.rate) * len(c.train)
            forward = c.train.nbytes + weight + out
            weight_gradient = c.rate.nbytes + c.grad.nbytes + weight
            input_gradient = c.grad.nbytes + weight + c.rate.nbytes
            total += forward + weight_gradient + (input_gradient if c.needs_input else 0)
        return total

    def speed(self, seconds: float) -> str:
        """How fast a step of so many seconds works, in words."""
        operations, moved = 2 * self.multiply_adds(), self.bytes_moved()
        return (
            f"{1e-9 * operations:.4g} GFLOP at {1e-12 * operations / seconds:.3g} TFLOP/s, "
            f"{moved / MEBIBYTE:.0f} MiB moved at {1e-9 * moved / seconds:.3g} GB/s"
        )


@torch.no_grad()
def convolution_shapes(
    net: nn.Module, workload: Workload
) -> list[tuple[nn.Conv2d, tuple[int, int, int]]]:
    """(convolution, shape (Ci, H, W) of its input), branches included, in forward order."""
    found: list[tuple[nn.Conv2d, tuple[int, int, int]]] = []

    def note(conv: nn.Conv2d, inputs: tuple[Tensor]) -> None:
        found.append((conv, tuple(inputs[0].shape[1:])))

    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    handles = [conv.register_forward_pre_hook(note) for conv in convolutions]
    image = torch.zeros(1, workload.in_channels, workload.size, workload.size)
    net.eval().head_logits(image)
    for handle in handles:
        handle.remove()
    return found
