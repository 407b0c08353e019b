"""Stages and branches of a residual network from its tables of widths and depths."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from model.branch import Branch
from model.functional import Neuron
from model.method import METHODS


def make_stages(
    block: Callable[..., nn.Module],
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    steps: int,
    neuron: Neuron,
) -> nn.ModuleList:
    """One Sequential of blocks per stage; each stage but the first begins with stride 2.

    Args: block(c_in, c_out, stride, steps=, neuron=); widths and depths: channels and number of
    blocks of each stage; the input has the channels of the first stage.
    """
    stages = nn.ModuleList()
    c_in = widths[0]
    for i, (c_out, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = []
        for j in range(depth):
            stride = 2 if i > 0 and j == 0 else 1
            blocks.append(block(c_in, c_out, stride, steps=steps, neuron=neuron))
            c_in = c_out
        stages.append(nn.Sequential(*blocks))
    return stages


def make_branches(
    widths: tuple[int, ...],
    num_classes: int,
    *,
    method: str,
    pool: int | None,
    standard_block: bool = False,
) -> nn.ModuleList:
    """A `Branch` for each stage but the last if the method has branches, else an empty list."""
    if not METHODS[method].branches:
        return nn.ModuleList()
    return nn.ModuleList(
        Branch(widths[i:], num_classes, pool=pool, standard_block=standard_block)
        for i in range(len(widths) - 1)
    )
