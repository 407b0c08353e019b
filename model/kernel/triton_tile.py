"""How the Triton kernels see maps (B, C, H, W): by tiles of rows and channels, in either layout.

A row is a pixel of a sample, row = b*H*W + pixel; M = B*H*W rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def offset_of(row, channel, channels, pixels, channels_inside: tl.constexpr):
    """Where element (row, channel) lies in dense maps; pixels: H*W."""
    if channels_inside:
        address = row * channels + channel
    else:
        address = (row // pixels) * (channels * pixels) + channel * pixels + row % pixels
    return address


def triton_dtype(dtype: torch.dtype) -> tl.dtype:
    """That of the sums: float64 for float64 maps, else float32."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def parts_of(
    M: int, channels: int, tile_rows: int, tile_channels: int, programs: int
) -> tuple[int, int, int]:
    """How M rows are divided among about `programs` programs, so that small maps fill a GPU too.

    Returns: programs across the channels; tiles of rows in a part; parts, one per program.
    """
    across, down = triton.cdiv(channels, tile_channels), triton.cdiv(M, tile_rows)
    # A power of two, so that sizes of maps share a few compiled kernels.
    tiles = triton.next_power_of_2(triton.cdiv(across * down, programs))
    return across, tiles, triton.cdiv(down, tiles)
