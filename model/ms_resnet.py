"""Spiking MS-ResNet-18 and MS-ResNet-34: shortcuts carry membrane currents, not spikes.

The blocks are those of PreAct-ResNets without biases; downsampling is left to the blocks, there is
no max pooling, and neurons fire before the pooling at the end. Branches read the time mean of the
currents.
Source: "Advancing Spiking Neural Networks toward Deep Residual Learning", arXiv 2112.08954;
branches are ours, as in PreAct-ResNets.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from model.abc_model import RateModel
from model.layer import ConvNorm, LIFLayer, Linear
from model.preact_resnet import PreActBlock
from model.stage import doubled_widths, make_branches, make_stages


class MSResNet(RateModel):
    """7x7 stem, stages of `PreActBlock`s that each begin with stride 2, neurons, classifier.

    Args as in `ResNet`; small_stem: a 3x3 stem, and stride 1 in it and in the first stage.
    Batch norms start with the threshold as gamma, and with 0 at the end of a block, which so begins
    as its shortcut.
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
        self.stem = ConvNorm(self.in_channels, width, kernel_size, stride, steps=self.T)
        block = partial(PreActBlock, bias=False)
        self.stages = make_stages(block, widths, depths, first_stride=stride, **neurons)
        self._initialise_norms()
        self.stages[-1].append(LIFLayer(**neurons))
        self.classifier = nn.Sequential(Linear(widths[-1], num_classes))
        self.branches = make_branches(
            widths, num_classes, method=self.method, pool=branch_pool, standard_block=True
        )

    def _initialise_norms(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, self.neuron.threshold)
        for stage in self.stages:
            for block in stage:
                nn.init.zeros_(block.unit2.norm.weight)
