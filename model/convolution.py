"""Convolutions outside the graph: forward, dense or by the spikes alone, and backward."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model import spike_convolution


class Convolution(NamedTuple):
    """Parameters of a 2-d convolution: weight (C, Ci/groups, k, k), bias (C,) or None, geometry."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


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
