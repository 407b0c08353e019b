"""What the networks share: stages and branches from tables of widths; initialisation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from model.branch import Branch
from model.functional import Neuron
from model.method import Method


def doubled_widths(width: int, stages: int) -> tuple[int, ...]:
    """Channels of each stage of a residual network: width * 2^i."""
    return tuple(width * 2**i for i in range(stages))


def make_stages(
    block: Callable[..., nn.Module],
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    steps: int,
    neuron: Neuron,
    first_stride: int = 1,
) -> nn.ModuleList:
    """One Sequential of blocks per stage; each stage but the first begins with stride 2.

    Args: block(c_in, c_out, stride, steps=, neuron=); widths and depths: channels and number of
    blocks of each stage; the input has the channels of the first stage; first_stride: with which
    the first stage begins.
    """
    stages = nn.ModuleList()
    c_in = widths[0]
    for i, (c_out, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = []
        for j in range(depth):
            stride = 1 if j > 0 else 2 if i > 0 else first_stride
            blocks.append(block(c_in, c_out, stride, steps=steps, neuron=neuron))
            c_in = c_out
        stages.append(nn.Sequential(*blocks))
    return stages


def make_branches(
    widths: tuple[int, ...],
    num_classes: int,
    *,
    method: Method,
    pool: int | None,
    standard_block: bool = False,
) -> nn.ModuleList:
    """A `Branch` for each stage but the last if the method has branches, else an empty list."""
    if not method.branches:
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
