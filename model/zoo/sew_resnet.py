"""Spiking SEW-ResNet-18 and SEW-ResNet-34: spikes are added to spikes, element by element.

A block's output counts spikes: 0, 1, 2, ... at each time step, one more at most with each block of
a stage. Branches read the time mean of the counts.
Source: "Deep Residual Learning in Spiking Neural Networks", arXiv 2102.04159, with g = ADD;
branches are ours.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.activation import Activation
from model.functional import Neuron
from model.layer import ConvNormLIF, MaxPool
from model.stage import ResidualNetwork, initialise_fan_out


class SEWBlock(nn.Module):
    """conv-norm-LIF twice, plus x or conv-norm-LIF of it: (B, c_in, H, W) -> c_out."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, neuron: Neuron):
        super().__init__()
        self.unit1 = ConvNormLIF(c_in, c_out, 3, stride, neuron=neuron)
        self.unit2 = ConvNormLIF(c_out, c_out, 3, neuron=neuron)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = ConvNormLIF(c_in, c_out, 1, stride, neuron=neuron)

    def forward(self, x: Activation) -> Activation:
        out = self.unit2(self.unit1(x))
        return out.add(x if self.shortcut is None else self.shortcut(x))


class SEWResNet(ResidualNetwork):
    """7x7 stem and max pooling, or a 3x3 stem; stages of `SEWBlock`s.

    Convolutions have Kaiming fan-out initialisation.
    """

    block = SEWBlock

    def __init__(self, width: int, *, small_stem: bool, **options: Any):
        super().__init__(width, small_stem=small_stem, **options)
        if not small_stem:
            self.stages[0].insert(0, MaxPool(3, 2, 1))
        initialise_fan_out(self)

    def make_stem(self, width: int, small: bool) -> ConvNormLIF:
        kernel_size, stride = (3, 1) if small else (7, 2)
        return ConvNormLIF(self.in_channels, width, kernel_size, stride, neuron=self.neuron)
