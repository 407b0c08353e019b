"""What a branch may do to the stage that it reads: the gradients of both are joined at a fork.

A stage's firing rates are read by its branch and by the deeper network. With g_b and g_d their
gradients there, (B, C, H, W), the stage receives

    joined       g = g_d + g_b                              the paper: autograd's own sum
    partition    g = g_d + g_b on the first half of the channels, g_d on the others
    normalised   g = g_d + g_b min(1, |g_d| / |g_b|)        |.|: each sample's Euclidean norm

Joined, a branch can pull a stage away from what the deeper network needs of it. Partition leaves
channels to the deeper network alone, which reads all of them, as the branch does; normalised lets a
branch pull at most as hard as the deeper network, so not at all where that does not pull. Values of
the forward pass are the same in all three.

Sources: joined, arXiv 2510.06254. Partition is inspired by the feature partitioning of multi-exit
networks in Deep Feature Surgery (ECCV 2024, arXiv 2407.13986), of which it is no reproduction;
normalised is this project's. Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from model.activation import Activation, replaced
from model.functional import accumulation_dtype

Join = Callable[[Tensor, Tensor], Tensor]  # (g_b, g_d) -> g
A = TypeVar("A", bound=Activation)


class BranchGradient(NamedTuple):
    """A row of BRANCH_GRADIENTS.

    text: what it is, for a person.
    join: (g_b, g_d) -> g, all (B, C, ...); None leaves the sum to autograd, and makes no fork.
    """

    text: str
    join: Join | None = None

    def fork(self, activation: A) -> tuple[Tensor, A]:
        """The rate that a branch reads (B, C, ...), and the activation that goes on."""
        if self.join is None:
            return activation.rate, activation
        for_branch, rate = _Fork.apply(activation.rate, self.join)
        return for_branch, replaced(activation, rate=rate)


def add_to_share(g_b: Tensor, g_d: Tensor) -> Tensor:
    """g_b reaches the first half of the channels alone (of an odd number the larger half)."""
    g, share = g_d.clone(), (g_d.shape[1] + 1) // 2
    g[:, :share] += g_b[:, :share]
    return g


def add_limited(g_b: Tensor, g_d: Tensor) -> Tensor:
    """g_b is scaled, sample by sample, to at most the norm of g_d. Norms are not below fp32."""
    wide, dims = accumulation_dtype(g_d.dtype), tuple(range(1, g_d.dim()))
    b, d = (torch.linalg.vector_norm(g, dim=dims, keepdim=True, dtype=wide) for g in (g_b, g_d))
    scale = (d / b).where(b > d, 1)  # 1 where both are 0
    return torch.addcmul(g_d, g_b, scale.to(g_d.dtype))


class _Fork(torch.autograd.Function):
    """A rate for two readers, whose gradients are joined by a rule of ours."""

    @staticmethod
    def forward(ctx, rate, join):
        ctx.join = join
        return rate.view_as(rate), rate.view_as(rate)  # no copy

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g_b, g_d):  # (B, C, H, W) each; 0 of what was not read
        return ctx.join(g_b, g_d), None


BRANCH_GRADIENTS = {
    "joined": BranchGradient("a branch's gradient is added to the deeper network's, the paper"),
    "partition": BranchGradient(
        "it reaches half of the channels that the branch reads (not from the paper)", add_to_share
    ),
    "normalised": BranchGradient(
        "it is scaled, per sample, to at most the norm of the deeper network's (not from the "
        "paper)",
        add_limited,
    ),
}
