"""The hot functions of `functional` as Triton kernels for a GPU.

One program owns BLOCK neurons and runs them through all T time steps in registers; each input
current is read once and each spike written once. The backward pass is in `kernel_triton_backward`.

Maps are dense, (T, B*H*W, C) in channels_last layout or (T, B*C, H*W); sums are fp32 (or fp64 for
fp64 maps). The kernels' arguments are pointers; N is the number of neurons.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from model.functional import SURROGATE_SLOPE, Fired, Neuron, accumulation_dtype, spike_dtype
from model.kernel_triton_backward import norm_lif_backward, on_its_gpu, triton_dtype
from model.map_rows import MapRows

__all__ = ["lif_spikes", "norm_lif_backward", "norm_lif_rate", "norm_rate"]

BLOCK = 1024  # neurons per program of the forward kernels
SLOPE = tl.constexpr(SURROGATE_SLOPE)


@triton.jit
def _affine(scale, shift, channel, mask, dtype: tl.constexpr):
    """The scales and shifts of a block's channels."""
    scales = tl.load(scale + channel, mask=mask).to(dtype)
    return scales, tl.load(shift + channel, mask=mask).to(dtype)


@triton.jit
def _normalised(x, scale, shift):
    """scale * x + shift, or x where there is no normalisation."""
    if scale is not None:
        x = x * scale + shift
    return x


@triton.jit
def _at(maps, t, N):
    """Where time step t begins; in 64 bits, since T*N may not fit 32."""
    return maps + tl.cast(t, tl.int64) * N


@triton.jit
def _input(
    current, scale, shift, residual, residual_scale, residual_shift,
    t, offset, mask, N,
    current_steps: tl.constexpr, residual_steps: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """(current_t, normalised current_t + residual_t) of a block; sources with one step repeat."""
    raw = tl.load(_at(current, t % current_steps, N) + offset, mask=mask, other=0.0).to(dtype)
    x = _normalised(raw, scale, shift)
    if residual is not None:
        r = tl.load(_at(residual, t % residual_steps, N) + offset, mask=mask, other=0.0).to(dtype)
        x += _normalised(r, residual_scale, residual_shift)
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
    if scale is not None:
        scale, shift = _affine(scale, shift, channel, mask, dtype)
    if residual_scale is not None:
        residual_scale, residual_shift = _affine(
            residual_scale, residual_shift, channel, mask, dtype
        )
    v = tl.zeros((block,), dtype)
    f = tl.full((block,), 1.0, dtype)
    count = tl.zeros((block,), dtype)
    total = tl.zeros((block,), dtype)
    mean_sum = tl.zeros((block,), dtype)
    for t in tl.range(T):  # never with num_stages: spikes may replace the current
        raw, x = _input(
            current, scale, shift, residual, residual_scale, residual_shift,
            t, offset, mask, N, current_steps, residual_steps, dtype,
        )  # fmt: skip
        v = v * decay + x
        spike = v >= threshold
        s = tl.where(spike, 1.0, 0.0).to(dtype)
        tl.store(_at(spikes, t, N) + offset, s.to(spikes.dtype.element_ty), mask=mask)
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
    scale, shift = _affine(scale, shift, channel, mask, dtype)
    if residual_scale is not None:
        residual_scale, residual_shift = _affine(
            residual_scale, residual_shift, channel, mask, dtype
        )
    mean_sum = tl.zeros((block,), dtype)
    for t in tl.range(T):  # never with num_stages: the result may replace the current
        raw, x = _input(
            current, scale, shift, residual, residual_scale, residual_shift,
            t, offset, mask, N, current_steps, residual_steps, dtype,
        )  # fmt: skip
        mean_sum += raw
        tl.store(_at(out, t, N) + offset, x.to(out.dtype.element_ty), mask=mask)
    if mean is not None:
        tl.store(mean + offset, mean_sum / T, mask=mask)


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
            "dtype": triton_dtype(self.dtype),
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


@on_its_gpu
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


@on_its_gpu
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


@on_its_gpu
def lif_spikes(x: Tensor, steps: int, neuron: Neuron) -> Tensor:
    """`functional.lif_spikes`."""
    maps = _Maps(x, None, None, None, None, None)
    spikes = maps.output(steps, False)
    _fire_kernel[maps.grid](
        *maps.sources, spikes, None, None, None, *maps.sizes, T=steps, **neuron._asdict(),
        **maps.steps,
    )  # fmt: skip
    return maps.restore(spikes)
