"""Pairs of rate-based training, made of what one should hold.

Shapes: T time steps, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.rate_pair import Facts, RatePair


def spikes(*shape: int, seed: int = 1) -> Tensor:
    """Random spikes in float64, of which two in five fire; the same every time."""
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4).double()


def pair_of(train: Tensor, T: int, **facts: object) -> RatePair:
    """The pair of a train (T, B, ...), or (1, B, ...) if constant in time; its rate is a leaf.

    facts: further `Facts`. The rate of a train of bytes is in float64.
    """
    dtype = train.dtype if train.is_floating_point() else torch.float64
    rate = train.mean(0, dtype=dtype).requires_grad_()
    return RatePair(train.flatten(0, 1), rate, Facts(T, **facts))


def assert_mean(x: RatePair) -> None:
    """The rate of a pair is the time mean of its train, and it alone is in the graph."""
    torch.testing.assert_close(x.over_time().to(x.rate.dtype).mean(0), x.rate.detach())
    assert x.rate.requires_grad and not x.train.requires_grad
