"""The hot functions of `functional` as Triton kernels for a GPU.

Forward: one program owns BLOCK neurons and runs them through all T time steps in registers; each
input current is read once and each spike written once. Backward: two sweeps over the maps (B, ...),
the first for the two sums that batch norm's backward needs per channel, the second to apply them.

Maps are dense, (T, B*H*W, C) in channels_last layout or (T, B*C, H*W); sums are fp32 (or fp64 for
fp64 maps). The kernels' arguments are pointers; N is the number of neurons, M = B*H*W.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.functional import SURROGATE_SLOPE, Fired, Neuron, accumulation_dtype, spike_dtype
from model.map_rows import MapRows

BLOCK = 1024  # neurons per program of the forward kernels
TILE_ROWS, TILE_CHANNELS = 64, 64  # tile of the backward kernels
ROWS_PER_PROGRAM = 1024  # rows that one program of the first sweep adds up
SLOPE = tl.constexpr(SURROGATE_SLOPE)


@triton.jit
def _normalised(x, scale, shift, channel, mask):
    """scale * x + shift, or x where there is no normalisation."""
    if scale is not None:
        x = x * tl.load(scale + channel, mask=mask) + tl.load(shift + channel, mask=mask)
    return x


@triton.jit
def _input(
    current, scale, shift, residual, residual_scale, residual_shift,
    t, offset, channel, mask, N,
    current_steps: tl.constexpr, residual_steps: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """(current_t, normalised current_t + residual_t) of a block; sources with one step repeat."""
    raw = tl.load(current + (t % current_steps) * N + offset, mask=mask, other=0.0).to(dtype)
    x = _normalised(raw, scale, shift, channel, mask)
    if residual is not None:
        r = tl.load(residual + (t % residual_steps) * N + offset, mask=mask, other=0.0).to(dtype)
        x += _normalised(r, residual_scale, residual_shift, channel, mask)
    return raw, x


@triton.jit
def _reset(v, spike, threshold: tl.constexpr, v_reset: tl.constexpr):
    """`functional.reset`, with a Boolean spike."""
    u = v - threshold if v_reset is None else tl.full(v.shape, v_reset, v.dtype)
    return tl.where(spike, u, v)


@triton.jit
def _fire_kernel(
    current, scale, shift, residual, residual_scale, residual_shift,
    spikes, rate, eligibility, mean,
    N, inner, channels,
    T: tl.constexpr, current_steps: tl.constexpr, residual_steps: tl.constexpr,
    decay: tl.constexpr, threshold: tl.constexpr, v_reset: tl.constexpr,
    detach_reset: tl.constexpr, dtype: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """`functional.norm_lif_rate`; without a rate pointer, the spikes alone."""
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = offset < N
    channel = (offset // inner) % channels
    v = tl.zeros((block,), dtype)
    f = tl.full((block,), 1.0, dtype)
    count = tl.zeros((block,), dtype)
    total = tl.zeros((block,), dtype)
    mean_sum = tl.zeros((block,), dtype)
    for t in tl.static_range(T):
        raw, x = _input(
            current, scale, shift, residual, residual_scale, residual_shift,
            t, offset, channel, mask, N, current_steps, residual_steps, dtype,
        )  # fmt: skip
        v = v * decay + x
        spike = v >= threshold
        s = tl.where(spike, 1.0, 0.0).to(dtype)
        tl.store(spikes + t * N + offset, s.to(spikes.dtype.element_ty), mask=mask)
        if rate is not None:
            sigmoid = 1.0 / (1.0 + tl.exp(-SLOPE * (v - threshold)))
            g = SLOPE * sigmoid * (1.0 - sigmoid)
            total += f * g
            count += s
            mean_sum += raw
            if v_reset is not None:
                f = 1.0 + decay * f * (1.0 - s - (v - v_reset) * g)
            elif detach_reset:
                f = 1.0 + decay * f
            else:
                f = 1.0 + decay * f * (1.0 - threshold * g)
        v = _reset(v, spike, threshold, v_reset)
    if rate is not None:
        tl.store(rate + offset, count / T, mask=mask)
        tl.store(eligibility + offset, total / T, mask=mask)
        if mean is not None:
            tl.store(mean + offset, mean_sum / T, mask=mask)


@triton.jit
def _norm_kernel(
    current, scale, shift, residual, residual_scale, residual_shift,
    out, mean,
    N, inner, channels,
    T: tl.constexpr, current_steps: tl.constexpr, residual_steps: tl.constexpr,
    dtype: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """`functional.norm_rate`."""
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = offset < N
    channel = (offset // inner) % channels
    mean_sum = tl.zeros((block,), dtype)
    for t in tl.static_range(T):
        raw, x = _input(
            current, scale, shift, residual, residual_scale, residual_shift,
            t, offset, channel, mask, N, current_steps, residual_steps, dtype,
        )  # fmt: skip
        mean_sum += raw
        tl.store(out + t * N + offset, x.to(out.dtype.element_ty), mask=mask)
    if mean is not None:
        tl.store(mean + offset, mean_sum / T, mask=mask)


@triton.jit
def _address(row, channel, channels, pixels, channels_inside: tl.constexpr):
    """Offset of element (row, channel) of maps (B, C, H, W), row = b*H*W + pixel."""
    if channels_inside:
        address = row * channels + channel
    else:
        address = (row // pixels) * (channels * pixels) + channel * pixels + row % pixels
    return address


@triton.jit
def _gradient(grad, eligibility, address, mask, dtype: tl.constexpr):
    """grad * eligibility of a tile; grad alone where there are no neurons."""
    g = tl.load(grad + address, mask=mask, other=0.0).to(dtype)
    if eligibility is not None:
        g *= tl.load(eligibility + address, mask=mask, other=0.0).to(dtype)
    return g


@triton.jit
def _sum_kernel(
    grad, eligibility, y, mean, sums,
    M, channels, pixels,
    channels_inside: tl.constexpr, rows_per_program: tl.constexpr, dtype: tl.constexpr,
    tile_rows: tl.constexpr, tile_channels: tl.constexpr,
):  # fmt: skip
    """First sweep: sum g and sum g (y - mean) over a range of rows -> sums (2, ranges, C)."""
    channel = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    centre = tl.load(mean + channel, mask=inside, other=0.0).to(dtype)
    sum_g = tl.zeros((tile_channels,), dtype)
    sum_gy = tl.zeros((tile_channels,), dtype)
    first = tl.program_id(1).to(tl.int64) * rows_per_program
    for start in range(0, rows_per_program, tile_rows):
        row = first + start + tl.arange(0, tile_rows)
        mask = (row < M)[:, None] & inside[None, :]
        address = _address(row[:, None], channel[None, :], channels, pixels, channels_inside)
        g = _gradient(grad, eligibility, address, mask, dtype)
        value = tl.load(y + address, mask=mask, other=0.0).to(dtype) - centre[None, :]
        sum_g += tl.sum(g, 0)
        sum_gy += tl.sum(g * value, 0)
    place = sums + tl.program_id(1) * channels + channel
    tl.store(place, sum_g, mask=inside)
    tl.store(place + tl.num_programs(1) * channels, sum_gy, mask=inside)


@triton.jit
def _apply_kernel(
    grad, eligibility, y, gamma, mean, inverse_std, sums, grad_sum, grad_y,
    M, channels, pixels,
    channels_inside: tl.constexpr, from_batch: tl.constexpr, dtype: tl.constexpr,
    tile_rows: tl.constexpr, tile_channels: tl.constexpr,
):  # fmt: skip
    """Second sweep: dL/dy = gamma / sigma (g - mean(g) - yhat mean(g yhat)); and g if wanted."""
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    mask = (row < M)[:, None] & inside[None, :]
    address = _address(row[:, None], channel[None, :], channels, pixels, channels_inside)
    g = _gradient(grad, eligibility, address, mask, dtype)
    if grad_sum is not None:
        tl.store(grad_sum + address, g.to(grad_sum.dtype.element_ty), mask=mask)
    inverse = tl.load(inverse_std + channel, mask=inside, other=0.0).to(dtype)
    if from_batch:
        centre = tl.load(mean + channel, mask=inside, other=0.0).to(dtype)
        mean_g = tl.load(sums + channel, mask=inside, other=0.0).to(dtype) / M
        mean_gy = tl.load(sums + channels + channel, mask=inside, other=0.0).to(dtype) / M
        value = tl.load(y + address, mask=mask, other=0.0).to(dtype) - centre[None, :]
        g = g - mean_g[None, :] - value * (mean_gy * inverse * inverse)[None, :]
    factor = tl.load(gamma + channel, mask=inside, other=0.0).to(dtype) * inverse
    tl.store(grad_y + address, (g * factor[None, :]).to(grad_y.dtype.element_ty), mask=mask)


def _triton_dtype(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32


class _Maps:
    """Dense current (T or 1, rows, columns) and residual, and the kernels' common arguments."""

    def __init__(
        self, current: Tensor, scale: Tensor | None, shift: Tensor | None,
        residual: Tensor | None, residual_scale: Tensor | None, residual_shift: Tensor | None,
    ):  # fmt: skip
        self.layout = layout = MapRows(current)
        self.x = layout.flatten(current).contiguous()
        self.dtype = accumulation_dtype(current.dtype)
        self.N = self.x[0].numel()
        self.grid = (triton.cdiv(self.N, BLOCK),)
        flat = None if residual is None else layout.flatten(residual).contiguous()
        self.sources = (self.x, scale, shift, flat, residual_scale, residual_shift)
        inner = 1 if layout.channels_inside else self.x.shape[2]
        self.sizes = (self.N, inner, layout.channels)
        self.steps = {
            "current_steps": len(self.x),
            "residual_steps": 1 if flat is None else len(flat),
            "dtype": _triton_dtype(self.dtype),
            "block": BLOCK,
        }

    def output(self, steps: int, overwrite: bool, compact: bool = False) -> Tensor:
        """Memory for (steps, rows, columns): that of current if it may and does fit."""
        dtype = spike_dtype(self.x, compact)
        if overwrite and len(self.x) == steps and dtype == self.x.dtype:
            return self.x
        return self.x.new_empty(steps, *self.x.shape[1:], dtype=dtype)

    def sum_map(self) -> Tensor:
        return self.x.new_empty(self.x.shape[1:], dtype=self.dtype)

    def restore(self, rows: Tensor) -> Tensor:
        """(T, rows, columns) -> (T, B, C, ...), (rows, columns) -> (B, C, ...)."""
        if rows.dim() == 2:
            return self.layout.unflatten(rows[None])[0]
        return self.layout.unflatten(rows)


def norm_lif_rate(
    current: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None,
    steps: int, neuron: Neuron, overwrite: bool = False,
    residual_scale: Tensor | None = None, residual_shift: Tensor | None = None,
    compact: bool = False,
) -> Fired:  # fmt: skip
    """`functional.norm_lif_rate`."""
    maps = _Maps(current, scale, shift, residual, residual_scale, residual_shift)
    constant = len(maps.x) == 1
    spikes = maps.output(steps, overwrite and not constant, compact)
    rate, eligibility = maps.sum_map(), maps.sum_map()
    mean = None if constant else maps.sum_map()
    _fire_kernel[maps.grid](
        *maps.sources, spikes, rate, eligibility, mean, *maps.sizes, T=steps,
        **neuron._asdict(), **maps.steps,
    )  # fmt: skip
    mean = maps.x[0].to(maps.dtype) if constant else mean
    return Fired(*(maps.restore(m) for m in (spikes, rate, eligibility, mean)))


def norm_rate(
    current: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None,
    overwrite: bool = False,
    residual_scale: Tensor | None = None, residual_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`functional.norm_rate`."""
    maps = _Maps(current, scale, shift, residual, residual_scale, residual_shift)
    constant = len(maps.x) == 1
    steps = max(maps.steps["current_steps"], maps.steps["residual_steps"])
    out = maps.output(steps, overwrite and not constant)
    mean = None if constant else maps.sum_map()
    _norm_kernel[maps.grid](*maps.sources, out, mean, *maps.sizes, T=steps, **maps.steps)
    return maps.restore(out), maps.restore(maps.x[0].to(maps.dtype) if constant else mean)


def lif_spikes(x: Tensor, steps: int, neuron: Neuron) -> Tensor:
    """`functional.lif_spikes`."""
    maps = _Maps(x, None, None, None, None, None)
    spikes = maps.output(steps, False)
    _fire_kernel[maps.grid](
        *maps.sources, spikes, None, None, None, *maps.sizes, T=steps, **neuron._asdict(),
        **maps.steps,
    )  # fmt: skip
    return maps.restore(spikes)


def norm_lif_backward(
    grad: Tensor, eligibility: Tensor | None, y: Tensor, gamma: Tensor, mean: Tensor,
    inverse_std: Tensor, from_batch: bool, wants_sum: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:  # fmt: skip
    """`functional.norm_lif_backward`, where mean is the mean of y."""
    layout = MapRows(y[None])
    maps = [None if m is None else layout.flatten(m[None]).contiguous()
            for m in (grad, eligibility, y)]  # fmt: skip
    channels = layout.channels
    M = y.numel() // channels
    pixels = M // layout.batch
    dtype = accumulation_dtype(grad.dtype)
    common = {
        "channels_inside": layout.channels_inside,
        "dtype": _triton_dtype(dtype),
        "tile_rows": TILE_ROWS,
        "tile_channels": TILE_CHANNELS,
    }
    ranges = triton.cdiv(M, ROWS_PER_PROGRAM)
    partial = grad.new_empty((2, ranges, channels), dtype=dtype)
    _sum_kernel[triton.cdiv(channels, TILE_CHANNELS), ranges](
        *maps, mean, partial, M, channels, pixels, rows_per_program=ROWS_PER_PROGRAM, **common
    )
    sums = partial.sum(1)
    grad_y = torch.empty_like(maps[0])
    # Without neurons the gradient of the sum is grad itself.
    grad_sum = torch.empty_like(maps[0]) if wants_sum and eligibility is not None else None
    _apply_kernel[triton.cdiv(M, TILE_ROWS), triton.cdiv(channels, TILE_CHANNELS)](
        *maps, gamma, mean, inverse_std, sums, grad_sum, grad_y, M, channels, pixels,
        from_batch=from_batch, **common,
    )  # fmt: skip
    g_gamma = (sums[1] * inverse_std).to(gamma.dtype)
    g = None if not wants_sum else grad if grad_sum is None else layout.unflatten(grad_sum)[0]
    return g, layout.unflatten(grad_y)[0], g_gamma, sums[0].to(gamma.dtype)
