"""The activation of rate-based training, and how it passes each layer.

A pair holds a spike train and its mean over time, and one forward pass computes both:

    train  (T*B, ...)  x_t = gamma (conv(train_t) - mean) / std + beta + residual_t
                       train'_t = spikes of LIF neurons on x_t          outside the graph
    rate   (B, ...)    rate' = 1/T sum_t train'_t                       in the graph

Convolution, linear layers, batch norm's affine map, addition and average pooling commute with the
time mean. So the value of rate' is read off the train, and its gradient is the layer's own backward
evaluated at the mean (`rate_gradient`). Nothing that is kept for the backward pass grows with T.

Source: arXiv 2410.11488, section 4, where a second forward pass over the rates finds the same
values; that one pass carries both parts is this project's.
Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import kernel, rate_gradient
from model.activation import replaced
from model.batch_norm import normalised
from model.convolution import Convolution, subsample
from model.functional import MAX_COUNT, Neuron
from model.kernel import DEFAULT_EXECUTION, Execution, Fired, Maps, Source
from model.rate_gradient import LayerPass, Plan

if TYPE_CHECKING:
    from model.abc_model import RateModel
    from model.layer import ConvNorm, LIFLayer, MaxPool


class Facts(NamedTuple):
    """What the engine knows of a pair beside its two parts.

    T: time steps for which neurons fire; train holds one as long as it is constant in time.
    execution: how the layers that read the pair compute.
    max_count: the greatest number of spikes that a value of train may count (1 for a spike train),
        so that rate is a count over T; 0 where values are no counts.
    scale, shift: (C,), of an affine map that is still to be applied to train, not to rate: that of
        a shortcut, which the layer that adds it applies as it goes. None: nothing is.
    rate_is_mean: False from a max pooling of maps that vary over time until neurons fire: rate is
        then what the published rate pass holds there, not the mean of train.
    """

    T: int
    execution: Execution = DEFAULT_EXECUTION
    max_count: int = 0
    scale: Tensor | None = None
    shift: Tensor | None = None
    rate_is_mean: bool = True

    @property
    def count_steps(self) -> int | None:
        """T if the rate is a count of spikes over T that one byte holds, else None."""
        return self.T if 0 < self.max_count * self.T <= MAX_COUNT else None

    def forward_dtype(self, own: torch.dtype) -> torch.dtype | None:
        """Of a convolution that reads train, whose dtype is own; None: as `kernel.convolve`."""
        low = self.execution.convolution_forward
        return low and (low if self.max_count else own)


class RatePair(NamedTuple):
    """An activation: what the network computes, and what its gradient flows through.

    train: (T*B, ...) with index t*B + b, or (B, ...) if constant in time; outside the graph; bytes
        where execution is sparse and values are counts of spikes.
    rate: (B, ...), the mean of train over time; in the graph.
    facts: beside these two.
    counts: (B, ...), bytes, T times the rate, if whoever made the pair had them at hand.
    """

    train: Tensor
    rate: Tensor
    facts: Facts
    counts: Tensor | None = None

    @classmethod
    def start(cls, x: Tensor, T: int, net: RateModel) -> RatePair:
        """Images (B, C, H, W), their own mean, which stay single until neurons fire; or frames."""
        train, rate = (x, x) if x.dim() == 4 else (x.flatten(0, 1), x.mean(0))
        return cls(train, rate, Facts(T, net.execution))

    @property
    def steps(self) -> int:
        """Time steps that train holds: T, or 1 if it is constant in time."""
        return self.train.shape[0] // self.rate.shape[0]

    def over_time(self) -> Tensor:
        """train as (T, B, ...), or (1, B, ...) if it is constant in time; not of a shortcut."""
        assert self.facts.scale is None  # its values are not yet what they stand for
        return self._maps.values

    def conv_norm(
        self, layer: ConvNorm, residual: RatePair | None = None, neuron: Neuron | None = None
    ) -> RatePair:
        """LIF(norm(conv(x)) + residual), or without neurons that sum.

        Batch norm's statistics are those of all T time steps; its running ones move once.
        """
        current, passed = self._normalised(layer)
        extra = None if residual is None else residual._maps
        # Nobody else reads the current: the train may take its memory, a layer's largest.
        source = Source(current, extra, reusable=True)
        with torch.no_grad():
            fired = kernel.fire(source, neuron, self.facts.T, self.facts.execution)
            if not self.facts.rate_is_mean:
                fired = fired._replace(mean_current=passed.convolution(passed.x))
        return self._result(passed, current, fired, residual)

    def shortcut(self, layer: ConvNorm) -> RatePair:
        """norm(conv(x)), with the affine map of train left to the layer that adds it."""
        current, passed = self._normalised(layer)
        with torch.no_grad():
            # By linearity the mean current needs no pass over all time steps.
            fired = Fired(current.values, mean_current=passed.convolution(passed.x))
        pair = self._result(passed, current, fired, None)
        return pair._with_facts(scale=current.scale, shift=current.shift)

    def fire(self, layer: LIFLayer) -> RatePair:
        """LIF neurons on this input current; dr/dx is the eligibility (`functional.lif_rate`)."""
        dtype = self.train.dtype if self.train.is_floating_point() else self.rate.dtype
        source = Source(Maps(self.over_time().to(dtype)))
        with torch.no_grad():
            fired = kernel.fire(source, layer.neuron, self.facts.T, self.facts.execution)
        rate = rate_gradient.of_neurons(fired.rate, self.rate, fired.eligibility)
        facts = Facts(self.facts.T, self.facts.execution, max_count=1)
        return type(self)(fired.train.flatten(0, 1), rate, facts, fired.counts)

    def linear(self, layer: nn.Linear) -> RatePair:
        """(B, C) -> (B, K)."""
        return self.map(lambda maps: F.linear(maps, layer.weight, layer.bias))

    def map(self, operation: Callable[[Tensor], Tensor]) -> RatePair:
        """A linear operation on both parts; what were counts of spikes are numbers then.

        The train takes the dtype of the rate, in which the sums of counts are exact.
        """
        wide = replaced(self, train=self.train.to(self.rate.dtype), counts=None)
        return wide._select(operation)._with_facts(max_count=0)

    def max_pool(self, layer: MaxPool) -> RatePair:
        """Maxima of train; of rate the maximum of the mean, as in the published rate pass.

        Where train varies over time that is not the mean of train, until neurons fire again.
        """
        is_mean = self.facts.rate_is_mean and self.steps == 1
        # Pooling bytes takes longer than counting the pooled rate's spikes.
        pooled = replaced(self, counts=None)._select(layer.pool)
        return pooled._with_facts(rate_is_mean=is_mean)

    def add(self, other: RatePair) -> RatePair:
        """The sum of two pairs of one shape; counts of spikes add up to counts."""
        mine, others = self.facts, other.facts
        max_count = mine.max_count + others.max_count if mine.max_count and others.max_count else 0
        train = self.over_time()
        if max_count > MAX_COUNT and not train.is_floating_point():
            train = train.to(self.rate.dtype)
        with torch.no_grad():
            train = (train + other.over_time()).flatten(0, 1)
        is_mean = mine.rate_is_mean and others.rate_is_mean
        facts = replaced(mine, max_count=max_count, rate_is_mean=is_mean)
        counts = None
        if facts.count_steps and self.counts is not None and other.counts is not None:
            counts = self.counts + other.counts
        return type(self)(train, self.rate + other.rate, facts, counts)

    @property
    def _maps(self) -> Maps:
        """train over time, with what is still to be applied to it."""
        values = self.train.unflatten(0, (self.steps, self.rate.shape[0]))
        return Maps(values, self.facts.scale, self.facts.shift)

    def _with_facts(self, **facts: object) -> RatePair:
        return replaced(self, facts=replaced(self.facts, **facts))

    def _select(self, operation: Callable[[Tensor], Tensor]) -> RatePair:
        """An operation on all parts that leaves counts of spikes what they are."""
        assert self.facts.scale is None
        with torch.no_grad():
            train = operation(self.train)
        counts = None if self.counts is None else operation(self.counts)
        return replaced(self, train=train, rate=operation(self.rate), counts=counts)

    def _normalised(self, layer: ConvNorm) -> tuple[Maps, LayerPass]:
        """norm(conv(train)), its affine map still to be applied; and what its gradient takes."""
        steps, convolution = Convolution.of(layer.conv).unstrided()
        x, norm, facts = self._select(lambda maps: subsample(maps, steps)), layer.norm, self.facts
        with torch.no_grad():
            dtype = facts.forward_dtype(x.train.dtype)
            current = kernel.convolve(x.train, convolution, dtype=dtype)
            current = current.unflatten(0, (self.steps, -1))
            maps, at_work = normalised(norm, current, repeats=facts.T // self.steps)
        passed = LayerPass(
            x=x.rate,
            counts=x.counts,
            weight=convolution.weight,
            bias=convolution.bias,
            gamma=at_work.gamma,
            beta=norm.bias,
            mean=at_work.mean,
            inverse_std=at_work.inverse_std,
            plan=Plan(
                geometry=convolution.geometry,
                from_batch=at_work.from_batch,
                average=at_work.average,
                execution=facts.execution,
                count_steps=facts.count_steps,
                dtype=current.dtype,
                rate_is_mean=facts.rate_is_mean,
            ),
        )
        return maps, passed

    def _result(
        self, passed: LayerPass, current: Maps, fired: Fired, residual: RatePair | None
    ) -> RatePair:
        """What a layer has made of self, its rate in the graph."""
        train, y, rate, eligibility, counts = fired
        added = None if residual is None else residual.rate
        are_spikes = rate is not None
        if not are_spikes:
            with torch.no_grad():  # what the layer does to train, done to its mean
                rate = current._replace(values=y[None]).mapped()[0]
                rate = rate if added is None else rate + added
        passed = passed._replace(rate=rate, residual=added, mean_current=y, eligibility=eligibility)
        pairs = (self,) if residual is None else (self, residual)
        is_mean = are_spikes or all(pair.facts.rate_is_mean for pair in pairs)
        facts = Facts(self.facts.T, self.facts.execution, int(are_spikes), rate_is_mean=is_mean)
        return type(self)(train.flatten(0, 1), rate_gradient.of_layer(passed), facts, counts)
