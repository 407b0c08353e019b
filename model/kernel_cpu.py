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
) -> Fired:
    """`functional.norm_lif_rate`, block by block. Spikes have current's dtype."""
    layout = MapRows(current)
    x = layout.flatten(current)
    size, dtype = x.shape[1:], accumulation_dtype(x.dtype)
    rate, eligibility = x.new_zeros(size, dtype=dtype), x.new_zeros(size, dtype=dtype)
    constant = x.shape[0] == 1
    mean = x[0].to(dtype) if constant else x.new_zeros(size, dtype=dtype)
    spikes = x if overwrite and not constant else x.new_empty(steps, *size)
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
    """The input current of a block at a time step, added onto a membrane potential."""

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
        self.current = current
        self.residual = None if residual is None else layout.flatten(residual)
        self.affine = self._affine(layout, scale, shift)
        self.residual_affine = self._affine(layout, residual_scale, residual_shift)

    @staticmethod
    def _affine(
        layout: MapRows, scale: Tensor | None, shift: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        return None if scale is None else (layout.per_channel(scale), layout.per_channel(shift))

    def charge(self, v: Tensor, block: slice, t: int) -> Tensor:
        """v += current_t + residual_t, normalised, in place; returns the block of current_t."""
        current = self.current[t if self.current.shape[0] > 1 else 0, block]
        _add_affine_(v, current, self.affine, block)
        if self.residual is not None:
            residual = self.residual[t if self.residual.shape[0] > 1 else 0, block]
            _add_affine_(v, residual, self.residual_affine, block)
        return current


def _add_affine_(
    v: Tensor, maps: Tensor, affine: tuple[Tensor, Tensor] | None, block: slice
) -> None:
    """v += scale * maps + shift in place."""
    if affine is None:
        v += maps
    else:
        scale, shift = (_block_of(values, block) for values in affine)
        v.addcmul_(maps, scale).add_(shift)


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
    v, g = torch.zeros_like(rate), torch.empty_like(rate)
    f: Tensor | float = 1.0
    for t in range(steps):
        current = source.charge(v.mul_(decay) if t else v, block, t)
        if mean is not None:
            mean.add_(current, alpha=1 / steps)
        s = torch.ge(v, threshold, out=spikes[t])
        torch.sub(v, threshold, out=g).mul_(SURROGATE_SLOPE).sigmoid_()
        torch.addcmul(g, g, g, value=-1, out=g)  # the surrogate gradient over its slope
        if isinstance(f, float):
            eligibility.add_(g, alpha=SURROGATE_SLOPE * f / steps)
        else:
            eligibility.addcmul_(g, f, value=SURROGATE_SLOPE / steps)
        rate += s
        if t + 1 < steps:
            f = functional.next_sensitivity(f, v, g.mul_(SURROGATE_SLOPE), s, neuron)
            _reset_(v, s, threshold, v_reset)
    rate /= steps


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
    mean = x[0].to(dtype) if constant else x.new_zeros(size, dtype=dtype)
    steps = max(x.shape[0], 1 if residual is None else residual.shape[0])
    out = x if overwrite and not constant else x.new_empty(steps, *size)
    source = _Source(layout, x, scale, shift, residual, residual_scale, residual_shift)
    for block in _blocks(x):
        v = mean.new_empty(mean[block].shape, dtype=dtype)
        for t in range(steps):
            current_block = source.charge(v.zero_(), block, t)
            if not constant:
                mean[block].add_(current_block, alpha=1 / steps)
            out[t, block] = v
    return layout.unflatten(out), layout.unflatten(mean[None])[0]


def lif_spikes(x: Tensor, steps: int, neuron: Neuron) -> Tensor:
    """`functional.lif_spikes`, block by block."""
    layout = MapRows(x)
    rows = layout.flatten(x)
    spikes = rows.new_empty(steps, *rows.shape[1:])
    source = _Source(layout, rows)
    for block in _blocks(rows):
        v = rows.new_zeros(rows[0, block].shape, dtype=accumulation_dtype(rows.dtype))
        for t in range(steps):
            source.charge(v.mul_(neuron.decay) if t else v, block, t)
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
