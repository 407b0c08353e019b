"""The backward pass of `functional` as Triton kernels for a GPU: two sweeps over maps (B, C, ...).

The first adds up the two sums that batch norm's backward needs per channel, the second applies
them.

Maps are dense, (B*H*W, C) in channels_last layout or (B*C, H*W); sums are fp32 (or fp64 for fp64
maps). The kernels' arguments are pointers; M = B*H*W.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.functional import accumulation_dtype
from model.map_rows import MapRows

TILE_ROWS, TILE_CHANNELS = 64, 64
ROWS_PER_PROGRAM = 1024  # rows that one program of the first sweep adds up


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


def triton_dtype(dtype: torch.dtype) -> tl.dtype:
    """That of the sums: float64 for float64 maps, else float32."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def on_its_gpu(function: Callable) -> Callable:
    """function, during which the GPU of its tensors is the current one: Triton's choice.

    Nothing changes for tensors that are not on a GPU.
    """

    @wraps(function)
    def guarded(*arguments, **options):
        values = (*arguments, *options.values())
        with torch.cuda.device_of(next(v for v in values if isinstance(v, Tensor))):
            return function(*arguments, **options)

    return guarded


@on_its_gpu
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
        "dtype": triton_dtype(dtype),
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
