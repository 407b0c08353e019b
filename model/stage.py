"""What the networks share: stages and branches by widths and depths; initialisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from model.abc_model import RateModel
from model.branch import Branch
from model.layer import Linear


class ResidualNetwork(RateModel):
    """Stem, stages of blocks, average pooling, classifier; a branch for each stage but the last.

    A network is a subclass with its own block (c_in, c_out, stride, neuron=) and stem.

    first_stride: with which the first stage begins under the published stem.
    standard_block: of the branches, see `Branch`.

    Args:
        width: channels of the stem and of the first stage; each further stage has twice as many.
        depths: blocks of each stage; every further stage begins with stride 2.
        small_stem: for images of some 32 to 64 pixels; the published one may shrink them.
        branch_pool: see `Branch`.
        common: what every `RateModel` takes.
    """

    block: Callable[..., nn.Module]
    first_stride: int = 1
    standard_block: bool = False

    def __init__(
        self,
        width: int,
        *,
        depths: tuple[int, ...],
        num_classes: int,
        branch_pool: int | None,
        small_stem: bool = False,
        **common: Any,
    ):
        super().__init__(**common)
        widths = tuple(width * 2**i for i in range(len(depths)))
        self.stem = self.make_stem(width, small_stem)
        self.stages, c_in = nn.ModuleList(), width
        stride = 1 if small_stem else self.first_stride
        for c_out, depth in zip(widths, depths, strict=True):
            blocks = []
            for _ in range(depth):
                blocks.append(self.block(c_in, c_out, stride, neuron=self.neuron))
                c_in, stride = c_out, 1
            self.stages.append(nn.Sequential(*blocks))
            stride = 2  # into every further stage
        self.classifier = self.make_classifier(widths[-1], num_classes)
        self.branches = make_branches(
            self, widths, num_classes, pool=branch_pool, standard_block=self.standard_block
        )

    def make_stem(self, width: int, small: bool) -> nn.Module:
        """Images (B, C, H, W) -> (B, width, ...)."""
        raise NotImplementedError

    def make_classifier(self, c_in: int, num_classes: int) -> nn.Sequential:
        """(B, c_in) -> logits (B, K)."""
        return nn.Sequential(Linear(c_in, num_classes))


def make_branches(
    net: RateModel,
    widths: tuple[int, ...],
    num_classes: int,
    *,
    pool: int | None,
    standard_block: bool = False,
) -> nn.ModuleList:
    """A `Branch` for each stage but the last if the net's method has branches, else none."""
    if not net.method.branches:
        return nn.ModuleList()
    return nn.ModuleList(
        Branch(widths[i:], num_classes, pool=pool, standard_block=standard_block)
        for i in range(len(widths) - 1)
    )


def initialise_fan_out(network: nn.Module) -> None:
    """Kaiming normal weights by fan-out in every convolution (arXiv 1502.01852), in place."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
