"""Layers: they hold parameters, and leave how to compute to the activation that passes them.

What each does is said for one time step (`activation` has the verbs). Shapes: B batch, C channels,
H x W pixels, K classes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from model.activation import Activation
from model.convolution import Conv2d
from model.functional import Neuron


class LIFLayer(nn.Module):
    """Leaky integrate-and-fire neurons; equations: `functional`."""

    def __init__(self, neuron: Neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, x: Activation) -> Activation:
        """Input current (B, ...) -> spikes (B, ...)."""
        return x.fire(self)

    def extra_repr(self) -> str:
        return str(self.neuron)


class ConvNorm(nn.Module):
    """Convolution and batch norm; its statistics run over time, batch and space."""

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, *, bias: bool = False
    ):
        super().__init__()
        # Padded so that a stride of 1 keeps the size of the map.
        self.conv = Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=bias)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Activation, residual: Activation | None = None) -> Activation:
        """norm(conv(x)) + residual; x (B, Ci, H, W), result and residual (B, C, H', W')."""
        return x.conv_norm(self, residual)


class Shortcut(ConvNorm):
    """Convolution and batch norm on the way to an addition: good for a residual alone."""

    def forward(self, x: Activation) -> Activation:
        """norm(conv(x)): (B, Ci, H, W) -> (B, C, H', W')."""
        return x.shortcut(self)


class ConvNormLIF(ConvNorm):
    """Convolution, batch norm, residual addition, LIF neurons: the unit of a spiking ResNet.

    sizes: c_in, c_out, kernel_size and stride, as of a `ConvNorm`.
    """

    def __init__(self, *sizes: int, neuron: Neuron, bias: bool = False):
        super().__init__(*sizes, bias=bias)
        self.neuron = neuron

    def forward(self, x: Activation, residual: Activation | None = None) -> Activation:
        """Spikes of LIF(norm(conv(x)) + residual); shapes as in `ConvNorm.forward`."""
        return x.conv_norm(self, residual, self.neuron)

    def extra_repr(self) -> str:
        return str(self.neuron)


class Linear(nn.Linear):
    """(B, C) -> (B, K), at every time step."""

    def forward(self, x: Activation) -> Activation:
        return x.linear(self)


def average_pool(maps: Tensor, side: int = 1) -> Tensor:
    """Average over side x side parts of the map, whatever its size, then flatten.

    (N, C, H, W) -> (N, C * side * side).
    """
    if side == 1:
        return maps.mean((-2, -1))  # unlike pooling, keeps no map for its backward
    return F.adaptive_avg_pool2d(maps, side).flatten(1)


class AveragePool(nn.AvgPool2d):
    """Average over window x window pixels."""

    def forward(self, x: Activation) -> Activation:
        """(B, C, H, W) -> (B, C, H//window, W//window)."""
        return x.map(super().forward)


class MaxPool(nn.MaxPool2d):
    """Max pooling, which does not commute with the time mean: each activation says what it does."""

    def forward(self, x: Activation) -> Activation:
        """(B, C, H, W) -> (B, C, H', W')."""
        return x.max_pool(self)

    def pool(self, maps: Tensor) -> Tensor:
        """The maxima of maps (N, C, H, W), which may be bytes."""
        if maps.is_floating_point():
            return super().forward(maps)
        # PyTorch 2.11 pools no bytes in channels_last layout on a CPU.
        return super().forward(maps.float()).to(maps.dtype)
