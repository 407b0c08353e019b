"""The hot functions of `functional` for a CPU without a compiler: blocked and in place.

The maps of one layer over T time steps (tens of megabytes) do not fit the cache, and a
step-by-step loop over them is bound by memory traffic. Here each block of about 64k neurons runs
through all its time steps while it stays in the cache: one read of the input current, one write of
the spikes, and three maps (B, ...) for the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from model import functional
from model.functional import SURROGATE_SLOPE, Fired, Neuron, accumulation_dtype
from model.kernel_cpu_eligibility import eligibility_sum
from model.map_rows import MapRows

BLOCK_ELEMENTS = 1 << 16  # neurons per block: the work buffers then stay in the second-level cache


def _blocks(rows: Tensor) -> Iterator[slice]:
    """Slices of rows (T, rows, columns), each about BLOCK_ELEMENTS large."""
    count, columns = rows.shape[1:]
    length = max(1, BLOCK_ELEMENTS // max(columns, 1))
    return (slice(start, start + length) for start in range(0, count, length))


def _block_of(values: Tensor, block: slice) -> Tensor:
    """The block's part of per-channel values, which may have one row for all."""
    return values if values.shape[0] == 1 else values[block]


def norm_lif_rate(
    current: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    steps: int,
    neuron: Neuron,
    overwrite: bool = False,
    residual_scale: Tensor | None = None,
    residual_shift: Tensor | None = None,
    compact: bool = False,
) -> Fired:
    """`functional.norm_lif_rate`, block by block."""
    layout = MapRows(current)
    x = layout.flatten(current)
    size, dtype = x.shape[1:], accumulation_dtype(x.dtype)
    rate, eligibility = (x.new_empty(size, dtype=dtype) for _ in range(2))
    constant = x.shape[0] == 1
    mean = x[0].to(dtype) if constant else x.new_empty(size, dtype=dtype)
    if overwrite and not constant and not compact:
        spikes = x
    else:
        spikes = x.new_empty(steps, *size, dtype=functional.spike_dtype(x, compact))
    source = _Source(layout, x, scale, shift, residual, residual_scale, residual_shift)
    for block in _blocks(x):
        _fire(
            source,
            block,
            spikes[:, block],
            neuron,
            rate[block],
            eligibility[block],
            None if constant else mean[block],
        )
    maps = (layout.unflatten(m[None])[0] for m in (rate, eligibility, mean))
    return Fired(layout.unflatten(spikes), *maps)


class _Source:
    """The input current of a block at a time step, added onto what is left of its potential.

    current, residual (T or 1, rows, columns); their scales and the sum of their shifts per channel.
    """

    def __init__(
        self,
        layout: MapRows,
        current: Tensor,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
        residual: Tensor | None = None,
        residual_scale: Tensor | None = None,
        residual_shift: Tensor | None = None,
    ):
        def per_channel(values: Tensor | None) -> Tensor | None:
            return None if values is None else layout.per_channel(values)

        self.current, self.scale = current, per_channel(scale)
        self.residual = None if residual is None else layout.flatten(residual)
        self.residual_scale = per_channel(residual_scale)
        shifts = [values for values in (shift, residual_shift) if values is not None]
        self.shift = per_channel(sum(shifts)) if shifts else None

    def charge(self, v: Tensor, block: slice, t: int, decay: float | None) -> Tensor:
        """v = decay v + current_t + residual_t, normalised, in place; returns block of current_t.

        At t = 0, and where decay is None, v is only written.
        """
        base = None if self.shift is None else _block_of(self.shift, block)
        if t and decay is not None:
            base = v.mul_(decay) if base is None else torch.add(base, v, alpha=decay, out=v)
        current = self.current[t if self.current.shape[0] > 1 else 0, block]
        _add(base, current, self.scale, block, out=v)
        if self.residual is not None:
            residual = self.residual[t if self.residual.shape[0] > 1 else 0, block]
            residual = residual if residual.is_floating_point() else residual.to(v.dtype)
            _add(v, residual, self.residual_scale, block, out=v)
        return current


def _add(
    base: Tensor | None, maps: Tensor, scale: Tensor | None, block: slice, *, out: Tensor
) -> None:
    """out = base + scale * maps; base None is 0, scale None is 1."""
    if scale is not None:
        torch.addcmul(base, maps, _block_of(scale, block), out=out)
    elif base is not None:
        torch.add(base, maps, out=out)
    else:
        out.copy_(maps)


def _fire(
    source: _Source,
    block: slice,
    spikes: Tensor,
    neuron: Neuron,
    rate: Tensor,
    eligibility: Tensor,
    mean: Tensor | None,
) -> None:
    """`functional.lif_rate` for one block, in place: fills spikes (T, n, m) and sums (n, m)."""
    decay, threshold, v_reset, _ = neuron
    steps = spikes.shape[0]
    v, q = torch.empty_like(rate), torch.empty_like(rate)
    wide = None if spikes.is_floating_point() else torch.empty_like(rate)
    offset = v.new_tensor(-SURROGATE_SLOPE * threshold)
    sensitivity = eligibility_sum(eligibility, neuron, steps)
    for t in range(steps):
        current = source.charge(v, block, t, decay)
        if mean is not None:
            _accumulate_(mean, current, t)
        s = _spike_(v, threshold, spikes[t], wide)
        _accumulate_(rate, s, t)
        torch.add(offset, v, alpha=SURROGATE_SLOPE, out=q).sigmoid_().sub_(0.5)
        sensitivity.add(v, q, s, t)
        if t + 1 < steps:
            _reset_(v, s, threshold, v_reset)
    rate /= steps
    if mean is not None:
        mean /= steps


def _spike_(v: Tensor, threshold: float, out: Tensor, wide: Tensor | None) -> Tensor:
    """[v >= threshold] into out; returns it as floating-point numbers, in `wide` if out is bytes.

    Everything that reads them is faster on those than on bytes.
    """
    if wide is None:
        return torch.ge(v, threshold, out=out)
    torch.ge(v, threshold, out=out.view(torch.bool))
    return wide.copy_(out)


def _accumulate_(total: Tensor, maps: Tensor, t: int) -> None:
    """total = maps at the first time step, total += maps later."""
    if t:
        total += maps
    else:
        total.copy_(maps)


def _reset_(v: Tensor, spikes: Tensor, threshold: float, v_reset: float | None) -> None:
    """`functional.reset` in place."""
    if v_reset is None:
        v.sub_(spikes, alpha=threshold)
    else:
        v.masked_fill_(spikes != 0, v_reset)


def norm_rate(
    current: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: Tensor | None,
    overwrite: bool = False,
    residual_scale: Tensor | None = None,
    residual_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`functional.norm_rate`, block by block."""
    layout = MapRows(current)
    x = layout.flatten(current)
    size, dtype = x.shape[1:], accumulation_dtype(x.dtype)
    constant = x.shape[0] == 1
    mean = x[0].to(dtype) if constant else x.new_empty(size, dtype=dtype)
    steps = max(x.shape[0], 1 if residual is None else residual.shape[0])
    out = x if overwrite and not constant else x.new_empty(steps, *size)
    source = _Source(layout, x, scale, shift, residual, residual_scale, residual_shift)
    for block in _blocks(x):
        v = mean.new_empty(mean[block].shape, dtype=dtype)
        for t in range(steps):
            current_block = source.charge(v, block, t, None)
            if not constant:
                _accumulate_(mean[block], current_block, t)
            out[t, block] = v
        if not constant:
            mean[block] /= steps
    return layout.unflatten(out), layout.unflatten(mean[None])[0]


def lif_spikes(x: Tensor, steps: int, neuron: Neuron) -> Tensor:
    """`functional.lif_spikes`, block by block."""
    layout = MapRows(x)
    rows = layout.flatten(x)
    spikes = rows.new_empty(steps, *rows.shape[1:])
    source = _Source(layout, rows)
    for block in _blocks(rows):
        v = rows.new_empty(rows[0, block].shape, dtype=accumulation_dtype(rows.dtype))
        for t in range(steps):
            source.charge(v, block, t, neuron.decay)
            s = torch.ge(v, neuron.threshold, out=spikes[t, block])
            _reset_(v, s, neuron.threshold, neuron.v_reset)
    return layout.unflatten(spikes)


def norm_lif_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    gamma: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    from_batch: bool,
    wants_sum: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """`functional.norm_lif_backward` by ATen's batch-norm backward, where mean is the mean of y."""
    g = grad if eligibility is None else grad * eligibility
    variance = inverse_std.pow(-2)  # read only if not from_batch; eps is then part of it
    g_y, g_gamma, g_beta = torch.ops.aten.native_batch_norm_backward(
        g, y.to(g.dtype), gamma, mean, variance, mean, inverse_std, from_batch, 0.0, [True] * 3
    )
    return g if wants_sum else None, g_y, g_gamma, g_beta
