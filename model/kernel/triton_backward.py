"""The backward of firing as Triton kernels for a GPU, in two sweeps over maps (B, C, ...).

    g = grad * eligibility;   yhat = (y - mean) * inverse_std
    dL/dy = gamma * inverse_std * (g - mean(g) - yhat * mean(g * yhat))

Two, because mean( ) runs over the whole batch: the first sweep adds up sum g and sum g (y - mean)
per channel, and the second applies them. Sums are fp32, fp64 for fp64 maps.

Maps are dense, (B*H*W, C) in channels_last layout, else (B*C, H*W); M = B*H*W rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.functional import accumulation_dtype
from model.kernel.map_rows import MapRows
from model.kernel.record import Gradients, Normalisation
from model.kernel.triton_tile import offset_of, parts_of, triton_dtype

TILE_ROWS, TILE_CHANNELS = 64, 64
MAX_PROGRAMS = 512  # of the first sweep: about as many as run at once


@triton.jit
def _gradient(grad, eligibility, address, mask, dtype: tl.constexpr):
    """grad * eligibility of a tile; grad alone where there are no neurons."""
    g = tl.load(grad + address, mask=mask, other=0.0).to(dtype)
    if eligibility is not None:
        g *= tl.load(eligibility + address, mask=mask, other=0.0).to(dtype)
    return g


@triton.jit
def _sum_kernel(
    grad,  # (M, C), as are the next two
    eligibility,  # None: no neurons
    y,
    mean,  # (C,)
    sums,  # (2, ranges, C)
    M,
    channels,
    pixels,  # H*W
    channels_inside: tl.constexpr,  # channels_last layout
    rows_per_program: tl.constexpr,
    dtype: tl.constexpr,  # of the sums
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """First sweep: sum g and sum g (y - mean) over a range of rows.

    Ranges, since channels alone are too few programs for a GPU. Their sums are added up after the
    sweep, always in one order; atomic additions would give other roundings in every run.
    """
    channel = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    centre = tl.load(mean + channel, mask=inside, other=0.0).to(dtype)
    sum_g = tl.zeros((tile_channels,), dtype)
    sum_gy = tl.zeros((tile_channels,), dtype)
    first = tl.program_id(1).to(tl.int64) * rows_per_program  # 64 bits: M*C may not fit 32
    for start in range(0, rows_per_program, tile_rows):
        row = first + start + tl.arange(0, tile_rows)
        mask = (row < M)[:, None] & inside[None, :]
        address = offset_of(row[:, None], channel[None, :], channels, pixels, channels_inside)
        g = _gradient(grad, eligibility, address, mask, dtype)
        # Centred before it is multiplied, since y may vary little about a large mean.
        value = tl.load(y + address, mask=mask, other=0.0).to(dtype) - centre[None, :]
        sum_g += tl.sum(g, 0)
        sum_gy += tl.sum(g * value, 0)
    place = sums + tl.program_id(1) * channels + channel
    tl.store(place, sum_g, mask=inside)
    tl.store(place + tl.num_programs(1) * channels, sum_gy, mask=inside)


@triton.jit
def _apply_kernel(
    grad,  # (M, C), as are the next two
    eligibility,  # None: no neurons
    y,
    gamma,  # (C,), as are the next two
    mean,
    inverse_std,
    sums,  # (2, C): of g and of g (y - mean) over all rows
    grad_source,  # (M, C): g; None: not wanted
    grad_y,  # (M, C)
    M,
    channels,
    pixels,  # H*W
    channels_inside: tl.constexpr,  # channels_last layout
    from_batch: tl.constexpr,  # whether mean and inverse_std depend on y
    dtype: tl.constexpr,  # of all arithmetic
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Second sweep: dL/dy of a tile, and g."""
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    mask = (row < M)[:, None] & inside[None, :]
    address = offset_of(row[:, None], channel[None, :], channels, pixels, channels_inside)
    g = _gradient(grad, eligibility, address, mask, dtype)
    if grad_source is not None:
        tl.store(grad_source + address, g.to(grad_source.dtype.element_ty), mask=mask)
    # Every tile reads its channels' statistics: few bytes beside its own, and no launch in between.
    inverse = tl.load(inverse_std + channel, mask=inside, other=0.0).to(dtype)
    if from_batch:
        centre = tl.load(mean + channel, mask=inside, other=0.0).to(dtype)
        mean_g = tl.load(sums + channel, mask=inside, other=0.0).to(dtype) / M
        mean_gy = tl.load(sums + channels + channel, mask=inside, other=0.0).to(dtype) / M
        value = tl.load(y + address, mask=mask, other=0.0).to(dtype) - centre[None, :]
        g = g - mean_g[None, :] - value * (mean_gy * inverse * inverse)[None, :]
    factor = tl.load(gamma + channel, mask=inside, other=0.0).to(dtype) * inverse
    tl.store(grad_y + address, (g * factor[None, :]).to(grad_y.dtype.element_ty), mask=mask)


def fire_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    norm: Normalisation,
    wants_source: bool,
    *,
    dtype: torch.dtype | None = None,
) -> Gradients:
    """`reference.fire_backward`, where mean is the mean of y."""
    gamma, mean, inverse_std, from_batch, _ = norm
    layout = MapRows(y[None])
    channels = layout.channels
    M = y.numel() // channels
    sum_dtype = accumulation_dtype(grad.dtype)

    def rows(maps: Tensor | None) -> Tensor | None:
        return None if maps is None else layout.flatten(maps[None]).contiguous()

    arguments = {
        "grad": rows(grad),
        "eligibility": rows(eligibility),
        "y": rows(y),
        "mean": mean,
        "M": M,
        "channels": channels,
        "pixels": M // layout.batch,
        "channels_inside": layout.channels_inside,
        "dtype": triton_dtype(sum_dtype),
        "tile_rows": TILE_ROWS,
        "tile_channels": TILE_CHANNELS,
    }
    across, tiles, ranges = parts_of(M, channels, TILE_ROWS, TILE_CHANNELS, MAX_PROGRAMS)
    partial = grad.new_empty((2, ranges, channels), dtype=sum_dtype)
    rows_of_grad = arguments["grad"]
    grad_y = torch.empty_like(rows_of_grad, dtype=dtype or grad.dtype)
    # Without neurons the gradient of the sum is grad itself.
    grad_source = (
        torch.empty_like(rows_of_grad) if wants_source and eligibility is not None else None
    )
    with torch.cuda.device_of(grad):  # Triton launches on the current GPU
        _sum_kernel[across, ranges](**arguments, sums=partial, rows_per_program=tiles * TILE_ROWS)
        sums = partial.sum(1)
        _apply_kernel[triton.cdiv(M, TILE_ROWS), across](
            **arguments,
            gamma=gamma,
            inverse_std=inverse_std,
            sums=sums,
            grad_source=grad_source,
            grad_y=grad_y,
            from_batch=from_batch,
        )
    if grad_source is not None:
        grad = layout.unflatten(grad_source)[0]
    grad_gamma, grad_beta = (sums[1] * inverse_std).to(gamma.dtype), sums[0].to(gamma.dtype)
    source = grad if wants_source else None
    return Gradients(source, layout.unflatten(grad_y)[0], grad_gamma, grad_beta)
