"""Spiking SEW-ResNet-18 and SEW-ResNet-34: spikes are added to spikes, element by element.

A block's output counts spikes: 0, 1, 2, ... at each time step, one more at most with each block of
a stage. Branches read the time mean of the counts.
Source: "Deep Residual Learning in Spiking Neural Networks", arXiv 2102.04159, with g = ADD;
branches are ours.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.abc_model import RateModel
from model.functional import Neuron
from model.layer import Activation, ConvNormLIF, Linear, MaxPool, add
from model.stage import doubled_widths, initialise_fan_out, make_branches, make_stages


class SEWBlock(nn.Module):
    """conv-norm-LIF twice, plus x or conv-norm-LIF of it: (T*B, c_in, H, W) -> c_out."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, steps: int, neuron: Neuron):
        super().__init__()
        neurons = {"steps": steps, "neuron": neuron}
        self.unit1 = ConvNormLIF(c_in, c_out, 3, stride, **neurons)
        self.unit2 = ConvNormLIF(c_out, c_out, 3, **neurons)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = ConvNormLIF(c_in, c_out, 1, stride, **neurons)

    def forward(self, x: Activation) -> Activation:
        out = self.unit2(self.unit1(x))
        return add(out, x if self.shortcut is None else self.shortcut(x))


class SEWResNet(RateModel):
    """7x7 stem, max pooling, stages of `SEWBlock`s, average pooling, linear classifier.

    Args as in `ResNet`; small_stem: a 3x3 stem with stride 1, without pooling.
    Convolutions have Kaiming fan-out initialisation.
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
        neurons = {"steps": self.T, "neuron": self.neuron}
        widths = doubled_widths(width, len(depths))
        kernel_size, stride = (3, 1) if small_stem else (7, 2)
        self.stem = ConvNormLIF(self.in_channels, width, kernel_size, stride, **neurons)
        self.stages = make_stages(SEWBlock, widths, depths, **neurons)
        if not small_stem:
            self.stages[0].insert(0, MaxPool(3, 2, 1))
        self.classifier = nn.Sequential(Linear(widths[-1], num_classes))
        self.branches = make_branches(widths, num_classes, method=self.method, pool=branch_pool)
        initialise_fan_out(self)
