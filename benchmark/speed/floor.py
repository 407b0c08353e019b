"""The floor under a training step: the network's convolutions and nothing else.

Each convolution of the spiking network runs forward on T*B maps (the stem of a static image on B)
and backward once on B maps; those of the branches, if it has any, run once on B maps either way.
All are dense, in channels_last layout, in the dtypes that `--amp` gives them. No method that runs
these convolutions is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.speed.census import Seen, layers_seen
from benchmark.speed.measure import MEBIBYTE, Stage, stage_peaks
from benchmark.speed.traffic import traffic_of_step
from benchmark.speed.workload import DTYPES, Dtypes, Workload
from model.convolution import Convolution, convolution_backward, subsample


class _Convolution(NamedTuple):
    """train (T*B or B, Ci, H, W) and the operation forward; rate (B, Ci, H, W), grad (B, C, H', W')
    and the weight backward."""

    train: Tensor
    rate: Tensor
    grad: Tensor
    operation: Convolution
    backward_weight: Tensor
    needs_input: bool


class ConvolutionFloor:
    """The convolutions of a network on random spikes, forward and backward.

    Called, it takes the step, as a `harness.TrainingStep` does. traffic: what a whole step moves
    beside them.
    """

    def __init__(self, net: nn.Module, workload: Workload, dtypes: Dtypes = DTYPES["none"]):
        self.workload, self.dtypes = workload, dtypes
        layers = layers_seen(net, workload)
        self.traffic = traffic_of_step(layers, net.parameters(), workload.batch, dtypes)
        with_convolution = [seen for seen in layers if seen.convolution is not None]
        self.convolutions = [
            self._prepare(seen, is_stem=index == 0) for index, seen in enumerate(with_convolution)
        ]

    def _prepare(self, seen: Seen, *, is_stem: bool) -> _Convolution:
        batch, device, dtypes = self.workload.batch, self.workload.device, self.dtypes
        forward = dtypes.counts if seen.reads_counts else dtypes.others
        backward = dtypes.others if seen.in_branch else dtypes.backward
        weight, conv = seen.convolution.weight.detach(), Convolution.of(seen.convolution)
        weight, low_weight = (self._channels_last(weight, d) for d in (forward, backward))
        strides, operation = conv._replace(weight=weight, bias=None).unstrided()
        spikes = torch.rand(seen.steps * batch, *seen.source, device=device) < 0.2
        train = self._channels_last(subsample(spikes, strides), forward)
        rates = torch.rand(batch, *seen.source, device=device)
        rate = self._channels_last(subsample(rates, strides), backward)
        grad = torch.rand_like(operation._replace(weight=low_weight)(rate))
        return _Convolution(train, rate, grad, operation, low_weight, needs_input=not is_stem)

    def _channels_last(self, maps: Tensor, dtype: torch.dtype) -> Tensor:
        maps = maps.to(self.workload.device, dtype)
        return maps.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self) -> None:
        for c in self.convolutions:
            c.operation(c.train)
        for c in reversed(self.convolutions):
            needs = (c.needs_input, True, False)
            convolution_backward(c.grad, c.rate, c.backward_weight, c.operation.geometry, needs)

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
            out = c.grad[0].numel() * len(c.train) * c.train.itemsize
            forward = c.train.nbytes + c.operation.weight.nbytes + out
            weight = c.backward_weight.nbytes
            weight_gradient = c.rate.nbytes + c.grad.nbytes + weight
            input_gradient = c.grad.nbytes + weight + c.rate.nbytes
            total += forward + weight_gradient + (input_gradient if c.needs_input else 0)
        return total

    def roofline(self, seconds: float, copy: float) -> float:
        """Seconds of a step whose convolutions take `seconds`, and that moves all that no
        convolution moves at the speed of a copy, in bytes per second."""
        return seconds + self.traffic.total / copy

    def speed(self, seconds: float) -> str:
        """How fast a step of so many seconds works, in words."""
        operations, moved = 2 * self.multiply_adds(), self.bytes_moved()
        return (
            f"{1e-9 * operations:.4g} GFLOP at {1e-12 * operations / seconds:.3g} TFLOP/s, "
            f"{moved / MEBIBYTE:.0f} MiB moved at {1e-9 * moved / seconds:.3g} GB/s"
        )
