"""Spiking PreAct-ResNet-18 and PreAct-ResNet-34 for large images.

Neurons fire on the way into each convolution; the sum that runs from block to block is a real
current, and branches read its time mean.
Source: arXiv 2510.06254; the tables of widths and depths are in `registry`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.activation import Activation
from model.functional import Neuron
from model.layer import ConvNorm, ConvNormLIF, LIFLayer, MaxPool, Shortcut
from model.stage import ResidualNetwork, initialise_fan_out


class PreActBlock(nn.Module):
    """LIF-conv-norm-LIF-conv-norm plus shortcut on the raw input: (B, c_in, H, W) -> c_out."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, neuron: Neuron, bias: bool = True):
        super().__init__()
        self.fire = LIFLayer(neuron)
        self.unit1 = ConvNormLIF(c_in, c_out, 3, stride, neuron=neuron, bias=bias)
        self.unit2 = ConvNorm(c_out, c_out, 3, bias=bias)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = Shortcut(c_in, c_out, 1, stride, bias=bias)

    def forward(self, x: Activation) -> Activation:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.unit2(self.unit1(self.fire(x)), residual)


class Stem(ConvNorm):
    """7x7 convolution with stride 2, batch norm, 3x3 max pooling with stride 2."""

    def __init__(self, in_channels: int, width: int):
        super().__init__(in_channels, width, 7, 2, bias=True)
        self.pool = MaxPool(3, 2, 1)

    def forward(self, x: Activation) -> Activation:
        return self.pool(super().forward(x))


class PreActResNet(ResidualNetwork):
    """`Stem`, or a 3x3 convolution and batch norm; stages of `PreActBlock`s.

    Convolutions have biases and Kaiming fan-out initialisation.
    """

    block = PreActBlock
    standard_block = True

    def __init__(self, width: int, **options: Any):
        super().__init__(width, **options)
        initialise_fan_out(self)

    def make_stem(self, width: int, small: bool) -> ConvNorm:
        if small:
            return ConvNorm(self.in_channels, width, 3, bias=True)
        return Stem(self.in_channels, width)
