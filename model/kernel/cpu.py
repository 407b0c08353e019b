"""The hot functions for a CPU without a compiler: blocked and in place.

The maps of one layer over T time steps (tens of megabytes) do not fit the cache, and a
step-by-step loop over them is bound by memory traffic. Here each block of about 64k neurons runs
through all its time steps while it stays in the cache: one read of the input current, one write of
the spikes, and maps (B, ...) for the backward pass.

Shapes: T time steps; maps (B, C, ...) are rows x columns (`map_rows`), those of a block n x m.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import accumulate

import torch
from torch import Tensor

from model.functional import SURROGATE_SLOPE, Neuron, accumulation_dtype
from model.kernel import reference
from model.kernel.map_rows import MapRows
from model.kernel.record import Fired, Gradients, Maps, Normalisation, Source, firing

BLOCK_ELEMENTS = 1 << 16  # neurons per block: the work buffers then stay in the second-level cache


def fill(source: Source, neuron: Neuron | None, fired: Fired) -> None:
    """`reference.fire` into the memory of `Source.new_fired`, block by block.

    In place, spikes land where their current was read a moment ago, which is in the cache; new
    memory would have to be fetched to be written.
    """
    layout = MapRows(source.current.values)
    terms, rows = layout.terms(source), fired.each(layout.flatten)
    if len(terms[0].values) == 1:  # its own mean, which is there already
        rows = rows._replace(mean_current=None)
    for block in _blocks(rows.train):
        inputs = _Inputs([Maps(*(_block_of(part, block) for part in term)) for term in terms])
        _fire(inputs, neuron, Fired(*(_block_of(maps, block) for maps in rows)))


fire = firing(fill)

# ATen's kernel for the statistics is fast, and work per channel is little.
batch_statistics, norm_constants = reference.batch_statistics, reference.norm_constants


def fire_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    norm: Normalisation,
    wants_source: bool,
    *,
    dtype: torch.dtype | None = None,
) -> Gradients:
    """`reference.fire_backward` by ATen's batch-norm backward, where mean is the mean of y."""
    gamma, mean, inverse_std, from_batch, _ = norm
    g = grad if eligibility is None else grad * eligibility  # (B, C, ...)
    variance = inverse_std.pow(-2)  # (C,), read only if not from_batch; eps is then part of it
    current, *of_norm = torch.ops.aten.native_batch_norm_backward(
        g, y.to(g.dtype), gamma, mean, variance, mean, inverse_std, from_batch, 0.0, [True] * 3
    )  # (B, C, ...), (C,), (C,)
    return Gradients(g if wants_source else None, current.to(dtype or grad.dtype), *of_norm)


def _blocks(rows: Tensor) -> Iterator[slice]:
    """Slices of rows (T, rows, columns), each about BLOCK_ELEMENTS large."""
    count, columns = rows.shape[1:]
    length = max(1, BLOCK_ELEMENTS // max(columns, 1))
    return (slice(start, start + length) for start in range(0, count, length))


def _block_of(rows: Tensor | None, block: slice) -> Tensor | None:
    """The block's part of (..., rows, columns), of which one row may stand for all."""
    return rows if rows is None or rows.shape[-2] == 1 else rows[..., block, :]


class _Inputs:
    """The input current of a block at a time step, added onto what is left of its potential.

    terms: (T or 1, n, m) each, with scales and shifts that broadcast.
    """

    def __init__(self, terms: list[Maps]):
        self.dtype = accumulation_dtype(terms[0].values.dtype)  # of potentials and sums
        # Views of all time steps at once: in the loop each would cost as much as small arithmetic.
        self.terms = [(term.values.unbind(0), term.scale) for term in terms]
        self.current = self.terms[0][0]
        # Two shifts are one constant per channel, so that a map is passed over once less.
        shifts = [term.shift for term in terms if term.shift is not None]
        self.shift = reduce(torch.add, shifts) if shifts else None

    def charge(self, v: Tensor, t: int, decay: float | None) -> None:
        """v = decay v + current_t + residual_t, normalised, in place.

        At t = 0, and where decay is None, v is only written.
        """
        base = self.shift
        if t and decay is not None:
            base = v.mul_(decay) if base is None else torch.add(base, v, alpha=decay, out=v)
        for values, scale in self.terms:
            maps = values[t % len(values)]
            maps = maps if maps.is_floating_point() else maps.to(v.dtype)
            if scale is not None:
                torch.addcmul(base, maps, scale, out=v)
            elif base is not None:
                torch.add(base, maps, out=v)
            else:
                v.copy_(maps)
            base = v


def _fire(inputs: _Inputs, neuron: Neuron | None, fired: Fired) -> None:
    """`functional.lif_rate` for one block, in place: fills the train (T, n, m) and maps (n, m)."""
    train = fired.train.unbind(0)
    steps = len(train)
    v = torch.empty_like(train[0], dtype=inputs.dtype)
    rate, kept = fired.rate, (fired.mean_current, fired.eligibility)
    mean, eligibility = sums = [_to_sum_in(maps, v) for maps in kept]
    # Everything that reads the spikes is faster on numbers than on bytes.
    numbers = None if train[0].is_floating_point() else torch.empty_like(v)
    summed = None if eligibility is None else Eligibility(eligibility, neuron, steps)
    for t in range(steps):
        inputs.charge(v, t, None if neuron is None else neuron.decay)
        if mean is not None:  # before the train takes the memory of the current
            _accumulate_(mean, inputs.current[t], t)
        if neuron is None:
            train[t].copy_(v)
            continue
        s = _spike_(v, neuron.threshold, train[t], numbers)
        if rate is not None:
            _accumulate_(rate, s, t)
            summed.add(v, s, t)
        if t + 1 < steps:
            _reset_(v, s, neuron)
    if fired.counts is not None:
        fired.counts.copy_(rate)
    for total in (mean, rate):
        if total is not None:
            total /= steps
    for maps, total in zip(kept, sums, strict=True):
        if maps is not None:
            maps.copy_(total)  # nothing to do where they are one


def _to_sum_in(maps: Tensor | None, v: Tensor) -> Tensor | None:
    """Where what maps will hold is added up: there, or beside them if they have less than v."""
    return maps if maps is None or maps.dtype == v.dtype else torch.empty_like(v)


def _accumulate_(total: Tensor, maps: Tensor, t: int) -> None:
    """total = maps at the first time step, total += maps later."""
    if t:
        total += maps
    else:
        total.copy_(maps)


def _spike_(v: Tensor, threshold: float, out: Tensor, numbers: Tensor | None) -> Tensor:
    """[v >= threshold] into out; where that is bytes, into numbers as well, which it returns."""
    if numbers is None:
        return torch.ge(v, threshold, out=out)
    torch.ge(v, threshold, out=out.view(torch.bool))
    return numbers.copy_(out)


def _reset_(v: Tensor, spikes: Tensor, neuron: Neuron) -> None:
    """`Neuron.reset` in place."""
    if neuron.v_reset is None:
        v.sub_(spikes, alpha=neuron.threshold)
    else:
        v.masked_fill_(spikes != 0, neuron.v_reset)


class Eligibility:
    """That of `functional.lif_rate`, summed over T time steps in place, into a map (n, m).

        e = 1/T sum_t f_t g_t,   g_t = slope q_t (1 - q_t) = slope (1/4 - (q_t - 1/2)^2)

    with q the sigmoid of slope (v_t - threshold) and f the sensitivity
    (`Neuron.next_sensitivity`). The second form of g takes one pass over a map, a constant
    minus a square, where the first takes two. They differ by rounding: far from the threshold the
    second may come out as -1e-7 instead of 0.
    """

    def __init__(self, out: Tensor, neuron: Neuron, steps: int):
        self.out, self.neuron, self.steps = out, neuron, steps
        self.centred = torch.empty_like(out)
        self.offset = out.new_tensor(-SURROGATE_SLOPE * neuron.threshold)
        self.f_is_number = neuron.v_reset is None and neuron.detach_reset
        # Where f is a number, its sum is known before the first step: all constants of the sum
        # are one, and each step subtracts f_t (q_t - 1/2)^2 from it.
        f = list(accumulate(range(steps - 1), lambda f, _: 1 + neuron.decay * f, initial=1.0))
        self.weights = [SURROGATE_SLOPE / steps * f_t for f_t in f]
        self.constant = out.new_tensor(sum(self.weights) / 4 if self.f_is_number else 0.25)
        self.f: Tensor | float = 1.0

    def add(self, v: Tensor, spikes: Tensor, t: int) -> None:
        """Add the term of time step t, given its potentials before the reset."""
        out, c = self.out, self.centred
        torch.add(self.offset, v, alpha=SURROGATE_SLOPE, out=c).sigmoid_().sub_(0.5)
        if self.f_is_number:
            torch.addcmul(out if t else self.constant, c, c, value=-self.weights[t], out=out)
            return
        g = torch.addcmul(self.constant, c, c, value=-1, out=c).mul_(SURROGATE_SLOPE)
        if t:
            out.addcmul_(g, self.f, value=1 / self.steps)
        else:
            torch.mul(g, 1 / self.steps, out=out)
        if t + 1 < self.steps:
            self.f = self.neuron.next_sensitivity(self.f, v, g, spikes)
