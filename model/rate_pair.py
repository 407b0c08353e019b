"""An activation of rate-based training, and the operations that act on both of its parts alike.

Source: arXiv 2410.11488, section 4; that one pass carries both parts is this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from model.kernel import DEFAULT_EXECUTION, Execution

MAX_COUNT = 255  # spikes that one byte counts


class RatePair(NamedTuple):
    """An activation: what the network computes, and what its gradient flows through.

    train: (T*B, ...) with index t*B + b, or (B, ...) if constant in time; outside the graph;
        bytes where execution is sparse and values are counts of spikes.
    rate:  (B, ...), the mean of train over time; in the graph.
    max_count: the greatest number of spikes that a value of train may count (1 for a spike train),
        so that rate is a count over T; 0 where values are no counts.
    execution: how the layers that read it compute.
    pending: scale and shift (C,) that are still to be applied to train, not to rate; only a
        residual may have them, and the layer that adds it applies them as it goes.
    rate_is_mean: False from a max pooling of maps that vary over time until neurons fire: rate is
        then what the published rate pass holds there, not the mean of train.
    """

    train: Tensor
    rate: Tensor
    max_count: int = 0
    execution: Execution = DEFAULT_EXECUTION
    pending: tuple[Tensor, Tensor] | None = None
    rate_is_mean: bool = True

    @property
    def steps(self) -> int:
        """Time steps that train holds: T, or 1 if it is constant in time."""
        return self.train.shape[0] // self.rate.shape[0]

    def over_time(self) -> Tensor:
        """train as (T, B, ...), or (1, B, ...) if it is constant in time."""
        return self.train.unflatten(0, (self.steps, self.rate.shape[0]))


def map_pair(
    operation: Callable[[Tensor], Tensor], x: RatePair, *, keeps_counts: bool = False
) -> RatePair:
    """Apply an operation to both parts of a pair; whether it commutes is the caller's concern.

    keeps_counts: whether it only selects or moves values, so that counts of spikes stay counts.
    """
    assert x.pending is None
    train = x.train
    if not (keeps_counts or train.is_floating_point()):
        train = train.to(x.rate.dtype)
    with torch.no_grad():
        train = operation(train)
    return x._replace(
        train=train, rate=operation(x.rate), max_count=x.max_count if keeps_counts else 0
    )


def add(x: RatePair, y: RatePair) -> RatePair:
    """The sum of two pairs of one shape; counts of spikes add up to counts."""
    assert x.pending is None and y.pending is None
    max_count = x.max_count + y.max_count if x.max_count and y.max_count else 0
    train = x.over_time()
    if max_count > MAX_COUNT and not train.is_floating_point():
        train = train.to(x.rate.dtype)
    with torch.no_grad():
        train = (train + y.over_time()).flatten(0, 1)
    return x._replace(
        train=train,
        rate=x.rate + y.rate,
        max_count=max_count,
        rate_is_mean=x.rate_is_mean and y.rate_is_mean,
    )
