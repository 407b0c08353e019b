"""Firing as a Triton kernel for a GPU; others: `triton_backward`, `triton_moments`.

    x_t = scale * current_t + shift + residual_scale * residual_t + residual_shift
    v_t = decay * u_{t-1} + x_t;   s_t = [v_t >= threshold];   u_t = reset(v_t, s_t)

One program owns `block` neurons and runs them through all T time steps in registers: each input is
read once, each result written once, a potential never. Sums are fp32, fp64 for fp64 maps.

Maps are dense, (T, B*H*W, C) in channels_last layout, else (T, B*C, H*W); N = B*C*H*W neurons.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from model.functional import SURROGATE_SLOPE, Neuron
from model.kernel.map_rows import MapRows
from model.kernel.record import Fired, Source, firing
from model.kernel.triton_backward import fire_backward
from model.kernel.triton_moments import batch_statistics, norm_constants
from model.kernel.triton_tile import triton_dtype

__all__ = ["batch_statistics", "fill", "fire", "fire_backward", "norm_constants"]

BLOCK = 1024  # neurons per program
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
def _load(maps, t, N, offset, mask, dtype: tl.constexpr):
    """A block at time step t."""
    return tl.load(_at(maps, t, N) + offset, mask=mask, other=0.0).to(dtype)


@triton.jit
def _reset(v, spike, threshold: tl.constexpr, v_reset: tl.constexpr):
    """`Neuron.reset`, with a Boolean spike."""
    u = v - threshold if v_reset is None else tl.full(v.shape, v_reset, v.dtype)
    return tl.where(spike, u, v)


@triton.jit
def _fire_kernel(
    current,  # (current_steps, N)
    scale,  # (C,), as are all scales and shifts; None: 1 and 0
    shift,
    residual,  # (residual_steps, N), of any dtype; or None
    residual_scale,
    residual_shift,
    train,  # (T, N): spikes, or x where there are no neurons; may be current
    rate,  # (N,), as are the next three; None: not wanted
    eligibility,
    mean_current,
    counts,  # bytes
    N,
    inner,  # neighbours in memory that share a channel: 1 in channels_last layout, else H*W
    channels,
    T: tl.constexpr,
    current_steps: tl.constexpr,  # T, or 1: constant in time
    residual_steps: tl.constexpr,
    decay: tl.constexpr,  # None: no neurons
    threshold: tl.constexpr,
    v_reset: tl.constexpr,  # None: soft reset
    detach_reset: tl.constexpr,
    dtype: tl.constexpr,  # of potentials and sums
    block: tl.constexpr,
):
    """`reference.fire`."""
    offset = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    mask = offset < N
    channel = (offset // inner) % channels
    # Loaded once, since a program's channels are the same at every time step.
    if scale is not None:
        scale, shift = _affine(scale, shift, channel, mask, dtype)
    if residual_scale is not None:
        residual_scale, residual_shift = _affine(
            residual_scale, residual_shift, channel, mask, dtype
        )
    v = tl.zeros((block,), dtype)
    f = tl.full((block,), 1.0, dtype)  # `Neuron.next_sensitivity`
    count = tl.zeros((block,), dtype)
    total = tl.zeros((block,), dtype)
    mean_sum = tl.zeros((block,), dtype)
    # tl.range is not unrolled: neither code nor compilation grows with T. It never gets num_stages,
    # which would load time steps ahead of the stores: train may be current.
    for t in tl.range(T):
        raw = _load(current, t % current_steps, N, offset, mask, dtype)
        x = _normalised(raw, scale, shift)
        if residual is not None:
            r = _load(residual, t % residual_steps, N, offset, mask, dtype)
            x += _normalised(r, residual_scale, residual_shift)
        s = x
        if decay is not None:
            v = v * decay + x
            spike = v >= threshold
            s = tl.where(spike, 1.0, 0.0).to(dtype)
        tl.store(_at(train, t, N) + offset, s.to(train.dtype.element_ty), mask=mask)
        if rate is not None:
            sigmoid = 1.0 / (1.0 + tl.exp(-SLOPE * (v - threshold)))
            g = SLOPE * sigmoid * (1.0 - sigmoid)
            total += f * g
            count += s
            if v_reset is not None:
                f = 1.0 + decay * f * (1.0 - s - (v - v_reset) * g)
            elif detach_reset:
                f = 1.0 + decay * f
            else:
                f = 1.0 + decay * f * (1.0 - threshold * g)
        if mean_current is not None:
            mean_sum += raw
        if decay is not None:
            v = _reset(v, spike, threshold, v_reset)
    if rate is not None:
        tl.store(rate + offset, count / T, mask=mask)
        tl.store(eligibility + offset, (total / T).to(eligibility.dtype.element_ty), mask=mask)
    if counts is not None:
        tl.store(counts + offset, count.to(counts.dtype.element_ty), mask=mask)
    if mean_current is not None:
        mean = (mean_sum / T).to(mean_current.dtype.element_ty)
        tl.store(mean_current + offset, mean, mask=mask)


def fill(source: Source, neuron: Neuron | None, fired: Fired) -> None:
    """`reference.fire` into the memory of `Source.new_fired`."""
    current, residual, _ = source
    layout = MapRows(current.values)
    x = layout.flatten(current.values).contiguous()  # (T or 1, rows, columns), as is r
    r = None if residual is None else layout.flatten(residual.values).contiguous()
    rows = fired.each(layout.flatten)
    N = x[0].numel()
    decay, threshold, v_reset, detach_reset = neuron or (None, None, None, None)
    with torch.cuda.device_of(x):  # Triton launches on the current GPU
        _fire_kernel[(triton.cdiv(N, BLOCK),)](
            current=x,
            scale=current.scale,
            shift=current.shift,
            residual=r,
            residual_scale=None if residual is None else residual.scale,
            residual_shift=None if residual is None else residual.shift,
            train=rows.train,
            rate=rows.rate,
            eligibility=rows.eligibility,
            mean_current=None if len(x) == 1 else rows.mean_current,
            counts=rows.counts,
            N=N,
            inner=1 if layout.channels_inside else x.shape[2],
            channels=layout.channels,
            T=len(rows.train),
            current_steps=len(x),
            residual_steps=1 if r is None else len(r),
            decay=decay,
            threshold=threshold,
            v_reset=v_reset,
            detach_reset=detach_reset,
            dtype=triton_dtype(x.dtype),
            block=BLOCK,
        )


fire = firing(fill)
