"""Convolutions: as a module, and outside the graph, forward (dense or by spikes) and backward."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import spike_convolution


class Convolution(NamedTuple):
    """Parameters of a 2-d convolution: weight (C, Ci/groups, k, k), bias (C,) or None, geometry."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Convolution:
        """That of a module, which pads with zeros."""
        return cls(conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    def unstrided(self) -> tuple[tuple[int, int], Convolution]:
        """(steps, convolution): on each steps-th pixel (`subsample`) it does what self does on all.

        ((1, 1), self) but for strided 1x1 convolutions on a CPU: oneDNN's gradient of their weights
        writes out of bounds for fewer than 16 channels (torch 2.11, channels_last, two threads).
        Elsewhere taking the pixels first would be no more than a copy.
        """
        is_pointwise = self.weight.shape[-2:] == (1, 1) and self.padding == (0, 0)
        if not is_pointwise or self.weight.device.type != "cpu":
            return (1, 1), self
        return self.stride, self._replace(stride=(1, 1))


class Conv2d(nn.Conv2d):
    """torch's, computed as `Convolution.unstrided` says."""

    def forward(self, x: Tensor) -> Tensor:
        steps, convolution = Convolution.of(self).unstrided()
        if steps == (1, 1):
            return super().forward(x)
        return F.conv2d(subsample(x, steps), *convolution)


def subsample(maps: Tensor, steps: tuple[int, int]) -> Tensor:
    """Each steps-th pixel of maps (..., H, W): what a 1x1 convolution with that stride reads."""
    return maps if steps == (1, 1) else maps[..., :: steps[0], :: steps[1]]


def convolve(maps: Tensor, convolution: Convolution, *, are_spikes: bool = False) -> Tensor:
    """The convolution of maps (N, Ci, H, W): numbers, or counts of spikes as bytes.

    are_spikes: whether all are 0 or 1; silent inputs are then skipped where they can be.
    Returns: (N, C, H', W').
    """
    if maps.is_floating_point():
        return F.conv2d(maps, *convolution)
    if are_spikes and spike_convolution.can_skip(maps, *convolution):
        return spike_convolution.convolve(maps, *convolution[:4])
    return F.conv2d(maps.to(convolution.weight.dtype), *convolution)


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: tuple[tuple[int, int], tuple[int, int], tuple[int, int], int],
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a convolution with respect to (x, weight, bias), where needed.

    Args: grad (N, C, H', W'), x (N, Ci, H, W); geometry: stride, padding, dilation, groups.
    """
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [weight.shape[0]], stride, padding, dilation, False, [0, 0], groups, needs
    )
