"""ANN branches: ordinary networks that read a stage's firing rates and end in a classifier.

They serve training alone: their logits are teachers and students of the distillation, and their
gradients reach the spiking stages through the firing rates. Batch norms in them are ordinary ones,
since they see rates, with gradients, once per step.

Source: arXiv 2510.06254, section on ANN branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from model.convolution import Conv2d


class DeepConv(nn.Module):
    """Depthwise-separable residual block: halves the map and changes the width.

    out = relu(norm(conv1x1(x, stride 2)) + op(x)); op = depthwise 3x3 stride 2, 1x1 (c_in -> c_in),
    norm, relu, depthwise 3x3, 1x1 (c_in -> c_out), norm, relu.
    (B, c_in, H, W) -> (B, c_out, ceil(H/2), ceil(W/2)).
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.depthwise1 = nn.Conv2d(c_in, c_in, 3, 2, 1, groups=c_in, bias=False)
        self.pointwise1 = nn.Conv2d(c_in, c_in, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(c_in)
        self.depthwise2 = nn.Conv2d(c_in, c_in, 3, 1, 1, groups=c_in, bias=False)
        self.pointwise2 = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.shortcut = Conv2d(c_in, c_out, 1, 2, bias=False)
        self.shortcut_norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.pointwise1(self.depthwise1(x))))
        out = F.relu(self.norm2(self.pointwise2(self.depthwise2(out))))
        return F.relu(self.shortcut_norm(self.shortcut(x)) + out)


class StdConvBlock(nn.Module):
    """The standard residual block conv-norm-relu-conv-norm plus identity, relu; shape unchanged."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + x)


class Branch(nn.Module):
    """One DeepConv per remaining stage, pooling, classifier: (B, widths[0], H, W) -> (B, K).

    Args:
        widths: channels of the stage that is read and of every stage after it.
        num_classes: K.
        pool: side of the average-pooling window, of which the top-left one is read (as
            published), or None for the mean over the whole map.
        standard_block: add a StdConvBlock after each DeepConv (PreAct-ResNets).
    """

    def __init__(
        self,
        widths: Sequence[int],
        num_classes: int,
        *,
        pool: int | None,
        standard_block: bool = False,
    ):
        super().__init__()
        blocks: list[nn.Module] = []
        for c_in, c_out in pairwise(widths):
            blocks.append(DeepConv(c_in, c_out))
            if standard_block:
                blocks.append(StdConvBlock(c_out))
        self.blocks = nn.Sequential(*blocks)
        self.pool = pool
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, rate: Tensor) -> Tensor:
        """Firing rates (B, C, H, W) -> logits (B, K)."""
        x = self.blocks(rate)
        return self.classifier(self._pool(x).flatten(1))

    def _pool(self, x: Tensor) -> Tensor:
        if self.pool is None:
            return F.adaptive_avg_pool2d(x, 1)
        height, width = x.shape[-2:]
        if height // self.pool != 1 or width // self.pool != 1:
            raise ValueError(
                f"branch_pool {self.pool} does not leave 1x1 of a branch's {height}x{width} map: "
                "choose another window or global pooling (branch_pool=None, --branch_pool global)"
            )
        return F.avg_pool2d(x, self.pool)
