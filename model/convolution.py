"""Convolutions: as a module, as a record outside the graph, and their backward."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Geometry(NamedTuple):
    """How a 2-d convolution moves over a map, in the argument order of `F.conv2d`."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


class Convolution(NamedTuple):
    """A 2-d convolution: weight (C, Ci/groups, k, k), bias (C,) or None, geometry."""

    weight: Tensor
    bias: Tensor | None = None
    geometry: Geometry = Geometry()

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Convolution:
        """That of a module, which pads with zeros."""
        geometry = Geometry(conv.stride, conv.padding, conv.dilation, conv.groups)
        return cls(conv.weight, conv.bias, geometry)

    def __call__(self, maps: Tensor) -> Tensor:
        """(N, Ci, H, W) -> (N, C, H', W')."""
        return F.conv2d(maps, self.weight, self.bias, *self.geometry)

    def in_dtype(self, dtype: torch.dtype) -> Convolution:
        """The same with weight and bias rounded to a dtype."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return self._replace(weight=self.weight.to(dtype), bias=bias)

    def unstrided(self) -> tuple[tuple[int, int], Convolution]:
        """(steps, convolution): on each steps-th pixel (`subsample`) it does what self does on all.

        ((1, 1), self) but for strided 1x1 convolutions on a CPU: oneDNN's gradient of their weights
        writes out of bounds for fewer than 16 channels (torch 2.11, channels_last, two threads).
        Elsewhere taking the pixels first would be no more than a copy.
        """
        is_pointwise = self.weight.shape[-2:] == (1, 1) and self.geometry.padding == (0, 0)
        if not is_pointwise or self.weight.device.type != "cpu":
            return (1, 1), self
        every_pixel = self.geometry._replace(stride=(1, 1))
        return self.geometry.stride, self._replace(geometry=every_pixel)


class Conv2d(nn.Conv2d):
    """torch's, computed as `Convolution.unstrided` says."""

    def forward(self, x: Tensor) -> Tensor:
        steps, convolution = Convolution.of(self).unstrided()
        return super().forward(x) if steps == (1, 1) else convolution(subsample(x, steps))


def subsample(maps: Tensor, steps: tuple[int, int]) -> Tensor:
    """Each steps-th pixel of maps (..., H, W): what a 1x1 convolution with that stride reads."""
    return maps if steps == (1, 1) else maps[..., :: steps[0], :: steps[1]]


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, needs: tuple[bool, bool, bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a convolution with respect to (x, weight, bias), where needed.

    Args: grad (N, C, H', W'), x (N, Ci, H, W), in whose dtype they are computed, weight
    (C, Ci/groups, k, k).
    Returns: in the shapes of x, weight and bias; that of x in grad's dtype, the others in weight's.
    """
    stride, padding, dilation, groups = geometry
    g, w = grad.to(x.dtype), weight.to(x.dtype)
    gradients = torch.ops.aten.convolution_backward(
        g, x, w, [len(weight)], stride, padding, dilation, False, [0, 0], groups, needs
    )
    dtypes = grad.dtype, weight.dtype, weight.dtype
    return tuple(None if g is None else g.to(d) for g, d in zip(gradients, dtypes, strict=True))
