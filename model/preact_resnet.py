"""Spiking PreAct-ResNet-18 and PreAct-ResNet-34 for large images.

Neurons fire on the way into each convolution; the sum that runs from block to block is a real
current, and branches read its time mean.
Source: arXiv 2510.06254; the tables of widths and depths are in `registry`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.abc_model import RateModel
from model.functional import Neuron
from model.layer import (
    Activation,
    ConvNorm,
    ConvNormLIF,
    LIFLayer,
    Linear,
    MaxPool,
    Shortcut,
)
from model.stage import doubled_widths, initialise_fan_out, make_branches, make_stages


class PreActBlock(nn.Module):
    """LIF-conv-norm-LIF-conv-norm plus shortcut on the raw input: (T*B, c_in, H, W) -> c_out."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        *,
        steps: int,
        neuron: Neuron,
        bias: bool = True,
    ):
        super().__init__()
        options = {"steps": steps, "bias": bias}
        self.fire = LIFLayer(steps, neuron)
        self.unit1 = ConvNormLIF(c_in, c_out, 3, stride, neuron=neuron, **options)
        self.unit2 = ConvNorm(c_out, c_out, 3, **options)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = Shortcut(c_in, c_out, 1, stride, **options)

    def forward(self, x: Activation) -> Activation:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.unit2(self.unit1(self.fire(x)), residual)


class Stem(ConvNorm):
    """7x7 convolution with stride 2, batch norm, 3x3 max pooling with stride 2."""

    def __init__(self, in_channels: int, width: int, *, steps: int):
        super().__init__(in_channels, width, 7, 2, steps=steps, bias=True)
        self.pool = MaxPool(3, 2, 1)

    def forward(self, x: Activation) -> Activation:
        return self.pool(super().forward(x))


class PreActResNet(RateModel):
    """Stem, stages of `PreActBlock`s, average pooling, linear classifier.

    Args as in `ResNet`; small_stem: a 3x3 convolution and batch norm in place of `Stem`.
    Convolutions have biases and Kaiming fan-out initialisation.
    """

    def __init__(
        self,
        width: int,
        *,
        depths: tuple[int, ...],
        small_stem: bool,
        num_classes: int,
        branch_pool: int | None,
        **common: Any,
    ):
        super().__init__(**common)
        widths = doubled_widths(width, len(depths))
        if small_stem:
            self.stem = ConvNorm(self.in_channels, width, 3, steps=self.T, bias=True)
        else:
            self.stem = Stem(self.in_channels, width, steps=self.T)
        self.stages = make_stages(PreActBlock, widths, depths, steps=self.T, neuron=self.neuron)
        self.classifier = nn.Sequential(Linear(widths[-1], num_classes))
        self.branches = make_branches(
            widths, num_classes, method=self.method, pool=branch_pool, standard_block=True
        )
        initialise_fan_out(self)
