"""Spiking ResNet-18 and ResNet-19 for small images and event frames.

Every block's output is a spike train, so that branches read true firing rates.
Source: arXiv 2510.06254; the tables of widths and depths are in `registry`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.activation import Activation
from model.functional import Neuron
from model.layer import ConvNormLIF, LIFLayer, Linear, Shortcut
from model.stage import ResidualNetwork


class BasicBlock(nn.Module):
    """conv-norm-LIF-conv-norm, plus shortcut, then LIF: (B, c_in, H, W) -> (B, c_out, ...)."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, neuron: Neuron):
        super().__init__()
        self.unit1 = ConvNormLIF(c_in, c_out, 3, stride, neuron=neuron)
        self.unit2 = ConvNormLIF(c_out, c_out, 3, neuron=neuron)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = Shortcut(c_in, c_out, 1, stride)

    def forward(self, x: Activation) -> Activation:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.unit2(self.unit1(x), residual)


class ResNet(ResidualNetwork):
    """3x3 stem that fires, stages of `BasicBlock`s.

    hidden: whether a spiking layer precedes the last linear one, of half as many neurons as the
    last stage has channels (ResNet-19).
    """

    block = BasicBlock

    def __init__(self, width: int, *, hidden: bool = False, **options: Any):
        self.hidden = hidden  # the classifier is made while the network is built
        super().__init__(width, **options)

    def make_stem(self, width: int, small: bool) -> ConvNormLIF:
        return ConvNormLIF(self.in_channels, width, 3, neuron=self.neuron)

    def make_classifier(self, c_in: int, num_classes: int) -> nn.Sequential:
        # Drawn even where it is not used, so that a seed still gives the weights that it gave.
        plain = super().make_classifier(c_in, num_classes)
        if not self.hidden:
            return plain
        layers = Linear(c_in, c_in // 2), LIFLayer(self.neuron), Linear(c_in // 2, num_classes)
        return nn.Sequential(*layers)
