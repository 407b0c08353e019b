"""Bytes that a training step must move outside its convolutions.

With them a step has a roofline, see `floor.ConvolutionFloor.roofline`.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmark.speed.census import Seen
from benchmark.speed.workload import Dtypes
from model.layer import ConvNorm, ConvNormLIF, LIFLayer, MaxPool, Shortcut

GRADIENT = torch.float32.itemsize  # of rates; and of weights
COUNT = torch.uint8.itemsize  # of spikes, kept for the next layer's backward


class Traffic(NamedTuple):
    """Bytes that a step moves outside its convolutions, each map read and written once per sweep.

    statistics: maps over time, read for batch norm's mean and variance.
    firing: maps over time and what is added to them read, spikes or sums written; and what is kept:
        counts of spikes, mean current, eligibility.
    backward: gradient, eligibility and mean current read twice, since batch norm's backward needs
        sums over the batch first; the current's gradient written, and a residual's.
    branches: their batch norms, each with the ReLU or addition behind it: two reads and a write
        forward, four reads and a write backward.
    update: weight, gradient and momentum read, weight and momentum written.

    Maps over time and what is kept of them have the dtype of convolutions of spikes. Left out are
    poolings but the stem's, classifiers, the loss, casts, and the sums of gradients where a map has
    several readers: a step that moves those as well is further from its roofline.
    """

    statistics: int
    firing: int
    backward: int
    branches: int
    update: int

    @property
    def total(self) -> int:
        return sum(self)


def traffic_of_step(
    layers: Iterable[Seen], weights: Iterable[Tensor], batch: int, dtypes: Dtypes
) -> Traffic:
    """That of a step on `batch` samples with fp32 weights under SGD with momentum."""
    moved = zip(*(traffic_of_layer(seen, dtypes) for seen in layers), strict=True)
    update = 5 * GRADIENT * sum(weight.numel() for weight in weights)
    return Traffic(*(batch * sum(kind) for kind in moved))._replace(update=update)


def traffic_of_layer(seen: Seen, dtypes: Dtypes) -> Traffic:
    """That of one layer, for one sample."""
    size, value = prod(seen.result), dtypes.counts.itemsize
    fires = isinstance(seen.module, ConvNormLIF | LIFLayer)
    statistics = firing = backward = branches = 0
    match seen.module:
        case nn.BatchNorm2d():
            branches = (3 + 5) * size * dtypes.others.itemsize
        case MaxPool():
            both = prod(seen.source) + size
            firing, backward = seen.steps * both * value, both * GRADIENT
        case LIFLayer():
            firing = size * ((seen.steps + seen.result_steps + 1) * value + COUNT)
            backward = size * (2 * GRADIENT + value)
        case ConvNorm():
            statistics = seen.steps * size * value
            if not isinstance(seen.module, Shortcut):  # which is normalised where it is added
                firing = size * _firing_of_norm(seen, value, fires)
            reads = GRADIENT + value + (value if fires else 0)
            writes = dtypes.backward.itemsize + (GRADIENT if fires and seen.residual_steps else 0)
            backward = size * (2 * reads + writes)
    return Traffic(statistics, firing, backward, branches, 0)


def _firing_of_norm(seen: Seen, value: int, fires: bool) -> int:
    """Bytes per pixel and channel: what is read, written and kept."""
    steps = max(seen.steps, seen.residual_steps, seen.result_steps)
    over_time = (seen.steps + seen.residual_steps + steps) * value
    mean = 0 if seen.steps == 1 else value if fires else GRADIENT
    return over_time + mean + (value + COUNT if fires else 0)
