"""Spiking VGG-11 and VGGSNN: a chain of convolutions with average pooling, without shortcuts.

    VGG-11   64 128 | 256 256 | 512 512 | 512 512 | mean over the map | classifier
    VGGSNN   the same, but 3 x 3 means over parts of the map (2 x 2 pooling of 6 x 6, from 48 x 48)

with 2 x 2 average pooling at each bar between channels. Every stage ends in a spike train, so
that branches read true firing rates.
Sources: VGG-11, arXiv 2210.04195 (OTTT) and 2302.14311 (SLTT); VGGSNN, arXiv 2202.11946 (TET);
branches are ours.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from model.abc_model import RateModel
from model.layer import AveragePool, ConvNormLIF, Linear
from model.stage import initialise_fan_out, make_branches

STAGES = ((1, 2), (4, 4), (8, 8), (8, 8))  # of both networks


class VGG(RateModel):
    """A chain of convolutions, of which the first is the stem, pooling, linear classifier.

    Args:
        width: unit of the channels.
        table: of each stage, the channels of each convolution, in widths.
        pooled: side of the pooled map that the classifier reads.
        branch_pool: see `Branch`.
        common: what every `RateModel` takes.
    Convolutions have Kaiming fan-out initialisation.
    """

    def __init__(
        self,
        width: int,
        *,
        pooled: int,
        num_classes: int,
        branch_pool: int | None,
        table: tuple[tuple[int, ...], ...] = STAGES,
        **common: Any,
    ):
        super().__init__(**common)
        c_in, stages = self.in_channels, []
        for channels in table:
            layers: list[nn.Module] = [AveragePool(2)] if stages else []
            for c_out in (width * multiple for multiple in channels):
                layers.append(ConvNormLIF(c_in, c_out, 3, neuron=self.neuron))
                c_in = c_out
            stages.append(nn.Sequential(*layers))
        self.stem = stages[0].pop(0)
        self.stages = nn.ModuleList(stages)
        self.pooled = pooled
        self.classifier = nn.Sequential(Linear(c_in * pooled**2, num_classes))
        widths = tuple(width * channels[-1] for channels in table)
        self.branches = make_branches(self, widths, num_classes, pool=branch_pool)
        initialise_fan_out(self)
