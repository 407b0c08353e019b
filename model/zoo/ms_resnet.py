"""Spiking MS-ResNet-18 and MS-ResNet-34: shortcuts carry membrane currents, not spikes.

The blocks are those of PreAct-ResNets without biases; downsampling is left to the blocks, there is
no max pooling, and neurons fire before the pooling at the end. Branches read the time mean of the
currents.
Source: "Advancing Spiking Neural Networks toward Deep Residual Learning", arXiv 2112.08954;
branches are ours, as in PreAct-ResNets.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

from torch import nn

from model.layer import ConvNorm, LIFLayer
from model.preact_resnet import PreActBlock
from model.stage import ResidualNetwork


class MSResNet(ResidualNetwork):
    """7x7 or 3x3 stem, stages of `PreActBlock`s that each begin with stride 2, neurons.

    Batch norms start with the threshold as gamma, and with 0 at the end of a block, which so begins
    as its shortcut.
    """

    block = staticmethod(partial(PreActBlock, bias=False))
    first_stride = 2
    standard_block = True

    def __init__(self, width: int, **options: Any):
        super().__init__(width, **options)
        for module in (*self.stem.modules(), *self.stages.modules()):
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, self.neuron.threshold)
        for block in chain.from_iterable(self.stages):
            nn.init.zeros_(block.unit2.norm.weight)
        self.stages[-1].append(LIFLayer(self.neuron))

    def make_stem(self, width: int, small: bool) -> ConvNorm:
        kernel_size, stride = (3, 1) if small else (7, 2)
        return ConvNorm(self.in_channels, width, kernel_size, stride)
