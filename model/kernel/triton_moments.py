"""Batch norm's statistics, and all that it computes per channel, as two Triton kernels for a GPU.

    n = sum_i n_i;   mean = sum_i n_i mean_i / n;   M2 = sum_i (M2_i + n_i (mean_i - mean)^2)

merges parts i of n_i values with means mean_i and sums M2_i of squared deviations from them. The
first kernel reads the maps, once, and leaves the moments of up to MAX_PROGRAMS parts; the second
merges them, makes of mean and variance = M2 / n what `functional.batch_norm_constants` does, and
moves the running statistics. Moments are those of x - centre, with the first value of each channel
as its centre, and never a difference of squares: a mean far from 0 costs no digits. Additions have
one order, so results repeat.

Source of the merge: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing
sample variances", 1979; with parts of one value it is Welford's update.
Maps are dense, (B*H*W, C) in channels_last layout, else (B*C, H*W); M = B*H*W rows, B with all time
steps. Arithmetic is fp32, fp64 for fp64 maps, parameters or buffers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.functional import accumulation_dtype
from model.kernel.map_rows import MapRows
from model.kernel.record import NormState
from model.kernel.triton_tile import offset_of, parts_of, triton_dtype

TILE_ROWS, TILE_CHANNELS = 32, 64
MAX_PROGRAMS = 1024  # of the first kernel: all run at once, and the second merges at most as many
MERGED_CHANNELS = 4  # per program of the second kernel: 16 bytes in a row of its moments


@triton.jit
def _centre(maps, channel, inside, channels, pixels, channels_inside: tl.constexpr):
    """The first value of each channel."""
    address = offset_of(tl.zeros_like(channel), channel, channels, pixels, channels_inside)
    return tl.load(maps + address, mask=inside, other=0.0)


@triton.jit
def _merged(n, mean, M2):
    """Mean and M2 (channels,) of parts with n values, all (parts, channels) but n (parts, 1)."""
    whole = tl.sum(n * mean, 0) / tl.sum(n, 0)
    off = mean - whole[None, :]
    return whole, tl.sum(M2 + n * off * off, 0)


@triton.jit
def _moments_kernel(
    maps,  # (M, C)
    moments,  # (2, parts, C): mean and M2
    M,
    channels,
    pixels,  # H*W
    channels_inside: tl.constexpr,  # channels_last layout
    tiles: tl.constexpr,  # that one program reads
    dtype: tl.constexpr,  # of the moments
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Moments of a part of the rows. Each place of a tile is a part of its own until the end: in
    the loop no thread waits for another.
    """
    channel = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    centre = _centre(maps, channel, inside, channels, pixels, channels_inside).to(dtype)
    # 64 bits: M*C may not fit 32.
    first = tl.program_id(1).to(tl.int64) * (tiles * tile_rows) + tl.arange(0, tile_rows)
    mean = tl.zeros((tile_rows, tile_channels), dtype)
    M2 = tl.zeros((tile_rows, tile_channels), dtype)
    for tile in range(tiles):
        row = first + tile * tile_rows
        mask = (row < M)[:, None] & inside[None, :]
        address = offset_of(row[:, None], channel[None, :], channels, pixels, channels_inside)
        value = tl.load(maps + address, mask=mask, other=0.0).to(dtype) - centre[None, :]
        delta = tl.where(mask, value - mean, 0.0)
        mean += delta * (1.0 / tl.cast(tile + 1, dtype))  # one division for the whole tile
        M2 += delta * (value - mean)
    n = tl.minimum(tl.maximum((M - first + tile_rows - 1) // tile_rows, 0), tiles)
    whole, M2 = _merged(n.to(dtype)[:, None], mean, M2)
    place = moments + tl.program_id(1) * channels + channel
    tl.store(place, whole, mask=inside)
    tl.store(place + tl.num_programs(1) * channels, M2, mask=inside)


@triton.jit
def _move(running, channel, inside, value, momentum: tl.constexpr, dtype: tl.constexpr):
    """running <- (1 - momentum) running + momentum value."""
    old = tl.load(running + channel, mask=inside, other=0.0).to(dtype)
    tl.store(running + channel, (1.0 - momentum) * old + momentum * value, mask=inside)


@triton.jit
def _merge_kernel(
    maps,  # (M, C)
    moments,  # (2, parts, C): mean and M2
    gamma,  # (C,), as are the next three; None, as are these: mean and variance are wanted
    beta,
    running_mean,
    running_var,
    batches,  # (), of integers
    out,  # (4, C): mean, inverse_std, scale, shift; or (2, C): mean, variance
    M,
    part_rows,  # of which the last part may have fewer
    parts,
    channels,
    pixels,  # H*W
    count,  # of values per channel: M, times the time steps that each row stands for
    channels_inside: tl.constexpr,  # channels_last layout
    eps: tl.constexpr,  # constant, as is momentum: a float argument would be rounded to fp32
    momentum: tl.constexpr,
    dtype: tl.constexpr,  # of all arithmetic
    tile_parts: tl.constexpr,  # at least parts
    tile_channels: tl.constexpr,
):
    """Moments of all rows, and what batch norm makes of them."""
    channel = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    part = tl.arange(0, tile_parts)
    mask = (part < parts)[:, None] & inside[None, :]
    place = moments + part[:, None] * channels + channel[None, :]
    mean = tl.load(place, mask=mask, other=0.0).to(dtype)
    M2 = tl.load(place + parts * channels, mask=mask, other=0.0).to(dtype)
    n = tl.minimum(tl.maximum(M - part.to(tl.int64) * part_rows, 0), part_rows)
    mean, M2 = _merged(n.to(dtype)[:, None], mean, M2)
    mean += _centre(maps, channel, inside, channels, pixels, channels_inside).to(dtype)
    variance = M2 / M
    row = out + channel
    tl.store(row, mean, mask=inside)
    if gamma is None:
        tl.store(row + channels, variance, mask=inside)
    else:
        inverse_std = 1.0 / tl.sqrt(variance + eps)
        scale = tl.load(gamma + channel, mask=inside, other=0.0).to(dtype) * inverse_std
        shift = tl.load(beta + channel, mask=inside, other=0.0).to(dtype) - mean * scale
        tl.store(row + channels, inverse_std, mask=inside)
        tl.store(row + 2 * channels, scale, mask=inside)
        tl.store(row + 3 * channels, shift, mask=inside)
        unbiased = variance * (tl.cast(count, dtype) / tl.cast(count - 1, dtype))
        _move(running_mean, channel, inside, mean, momentum, dtype)
        _move(running_var, channel, inside, unbiased, momentum, dtype)
        if tl.program_id(0) == 0:
            tl.store(batches, tl.load(batches) + 1)


def batch_statistics(maps: Tensor) -> Tensor:
    """`reference.batch_statistics`."""
    out = maps.new_empty((2, maps.shape[1]), dtype=accumulation_dtype(maps.dtype))
    _fill(out, maps)
    return out


def norm_constants(maps: Tensor, state: NormState, count: int) -> Tensor:
    """`reference.norm_constants`."""
    dtype = torch.promote_types(accumulation_dtype(maps.dtype), state.gamma.dtype)
    out = maps.new_empty((4, maps.shape[1]), dtype=dtype)
    _fill(out, maps, state, count)
    return out


def _fill(out: Tensor, maps: Tensor, state: NormState | None = None, count: int = 0) -> None:
    """Launches both kernels; without a state, out (2, C) is mean and variance."""
    layout = MapRows(maps[None])
    channels, M = layout.channels, maps.numel() // layout.channels
    across, tiles, parts = parts_of(M, channels, TILE_ROWS, TILE_CHANNELS, MAX_PROGRAMS)
    dtype = accumulation_dtype(maps.dtype)
    gamma, beta, running_mean, running_var, batches, eps, momentum = state or (None,) * 7
    wide = out.dtype if state is None else torch.promote_types(out.dtype, running_mean.dtype)
    arguments = {
        "maps": layout.flatten(maps[None]).contiguous(),
        "moments": maps.new_empty((2, parts, channels), dtype=dtype),
        "M": M,
        "channels": channels,
        "pixels": M // layout.batch,
        "channels_inside": layout.channels_inside,
    }
    with torch.cuda.device_of(maps):  # Triton launches on the current GPU
        _moments_kernel[across, parts](
            **arguments,
            tiles=tiles,
            dtype=triton_dtype(dtype),
            tile_rows=TILE_ROWS,
            tile_channels=TILE_CHANNELS,
        )
        _merge_kernel[(triton.cdiv(channels, MERGED_CHANNELS),)](
            **arguments,
            gamma=gamma,
            beta=beta,
            running_mean=running_mean,
            running_var=running_var,
            batches=batches,
            out=out,
            part_rows=tiles * TILE_ROWS,
            parts=parts,
            count=count,
            eps=eps,
            momentum=momentum,
            dtype=triton_dtype(wide),
            tile_parts=triton.next_power_of_2(parts),
            tile_channels=MERGED_CHANNELS,
        )
