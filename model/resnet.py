"""Spiking ResNet-18 and ResNet-19 for small images and event frames.

Every block's output is a spike train, so that branches read true firing rates.
Source: arXiv 2510.06254; the tables of widths and depths are in `registry`.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.abc_model import RateModel
from model.functional import Neuron
from model.layer import Activation, ConvNormLIF, LIFLayer, Linear, Shortcut
from model.stage import doubled_widths, make_branches, make_stages


class BasicBlock(nn.Module):
    """conv-norm-LIF-conv-norm, plus shortcut, then LIF: (T*B, c_in, H, W) -> (T*B, c_out, ...)."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, steps: int, neuron: Neuron):
        super().__init__()
        self.unit1 = ConvNormLIF(c_in, c_out, 3, stride, steps=steps, neuron=neuron)
        self.unit2 = ConvNormLIF(c_out, c_out, 3, steps=steps, neuron=neuron)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = Shortcut(c_in, c_out, 1, stride, steps=steps)

    def forward(self, x: Activation) -> Activation:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.unit2(self.unit1(x), residual)


class ResNet(RateModel):
    """Stem, stages of `BasicBlock`s, global average pooling, classifier.

    Args:
        width: channels of the stem and of the first stage; each further stage has twice as many.
        depths: blocks of each stage; the first has stride 1, the others 2.
        hidden: whether a spiking layer of 2 * width neurons precedes the last linear one
            (ResNet-19).
        branch_pool: see `Branch`.
        common: what every `RateModel` takes.
    """

    def __init__(
        self,
        width: int,
        *,
        depths: tuple[int, ...],
        hidden: bool = False,
        num_classes: int,
        branch_pool: int | None,
        **common: Any,
    ):
        super().__init__(**common)
        neurons = {"steps": self.T, "neuron": self.neuron}
        widths = doubled_widths(width, len(depths))
        self.stem = ConvNormLIF(self.in_channels, width, 3, **neurons)
        self.stages = make_stages(BasicBlock, widths, depths, **neurons)
        self.classifier = nn.Sequential(Linear(widths[-1], num_classes))
        if hidden:
            self.classifier = nn.Sequential(
                Linear(widths[-1], 2 * width), LIFLayer(**neurons), Linear(2 * width, num_classes)
            )
        self.branches = make_branches(widths, num_classes, method=self.method, pool=branch_pool)
