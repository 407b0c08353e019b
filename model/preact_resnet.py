"""Spiking PreAct-ResNet-18 and PreAct-ResNet-34 for large images.

Neurons fire on the way into each convolution; the sum that runs from block to block is a real
current, and branches read its time mean.
Source: arXiv 2510.06254; the tables of widths and depths are in `registry`.
"""

from __future__ import annotations

from torch import nn

from model.abc_model import RateModel
from model.functional import Neuron
from model.kernel import Execution
from model.layer import (
    Activation,
    ConvNorm,
    ConvNormLIF,
    LIFLayer,
    Linear,
    Shortcut,
    average_pool,
    max_pool,
)
from model.stage import make_branches, make_stages


class PreActBlock(nn.Module):
    """LIF-conv-norm-LIF-conv-norm plus shortcut on the raw input: (T*B, c_in, H, W) -> c_out."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, steps: int, neuron: Neuron):
        super().__init__()
        self.fire = LIFLayer(steps, neuron)
        self.unit1 = ConvNormLIF(c_in, c_out, 3, stride, steps=steps, neuron=neuron, bias=True)
        self.unit2 = ConvNorm(c_out, c_out, 3, steps=steps, bias=True)
        self.shortcut = None
        if stride != 1 or c_in != c_out:
            self.shortcut = Shortcut(c_in, c_out, 1, stride, steps=steps, bias=True)

    def forward(self, x: Activation) -> Activation:
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.unit2(self.unit1(self.fire(x)), residual)


class Stem(ConvNorm):
    """7x7 convolution with stride 2, batch norm, 3x3 max pooling with stride 2."""

    def forward(self, x: Activation) -> Activation:
        return max_pool(super().forward(x), 3, 2, 1)


class PreActResNet(RateModel):
    """7x7 stem with max pooling, stages of `PreActBlock`s, average pooling, linear classifier.

    Args as in `ResNet`. Convolutions have biases and Kaiming fan-out initialisation.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        depths: tuple[int, ...],
        *,
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
        self.stem = Stem(in_channels, widths[0], 7, 2, steps=T, bias=True)
        self.stages = make_stages(PreActBlock, widths, depths, steps=T, neuron=neuron)
        self.classifier = nn.Sequential(Linear(widths[-1], num_classes))
        self.branches = make_branches(
            widths, num_classes, method=method, pool=branch_pool, standard_block=True
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def classify(self, x: Activation) -> Activation:
        return self.classifier(average_pool(x, None))
