"""Spiking ResNet-18 and ResNet-19 for small images and event frames.

Every block's output is a spike train, so that branches read true firing rates.
Source: arXiv 2510.06254; the tables of widths and depths are in `registry`.
"""

from __future__ import annotations

from torch import nn

from model.abc_model import RateModel
from model.functional import Neuron
from model.kernel import Execution
from model.layer import Activation, ConvNormLIF, LIFLayer, Linear, Shortcut, average_pool
from model.stage import make_branches, make_stages


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
        widths: channels of each stage; the stem has those of the first.
        depths: blocks of each stage; the first has stride 1, the others 2.
        hidden: width of a spiking layer before the last linear one, or None for none (ResNet-19).
        branch_pool: see `Branch`.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        *,
        hidden: int | None = None,
        num_classes: int,
        in_channels: int,
        T: int,
        neuron: Neuron,
        branch_pool: int | None,
        method: str,
        execution: Execution,
    ):
        super().__init__(
            in_channels=in_channels, T=T, neuron=neuron, method=method, execution=execution
        )
        self.stem = ConvNormLIF(in_channels, widths[0], 3, steps=T, neuron=neuron)
        self.stages = make_stages(BasicBlock, widths, depths, steps=T, neuron=neuron)
        self.classifier = nn.Sequential(Linear(widths[-1], num_classes))
        if hidden is not None:
            self.classifier = nn.Sequential(
                Linear(widths[-1], hidden), LIFLayer(T, neuron), Linear(hidden, num_classes)
            )
        self.branches = make_branches(widths, num_classes, method=method, pool=branch_pool)

    def classify(self, x: Activation) -> Activation:
        return self.classifier(average_pool(x, None))
