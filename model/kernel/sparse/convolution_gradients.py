"""Gradients of 3x3 convolutions on a CPU with down to a quarter of the products.

Minimal filtering takes 36 products of numbers for a tile of 4x4 pixels in place of 144; the numbers
are sums of pixels, of gradients and of weights. The work is done by `convolution_gradients.h`,
which reads counts of spikes as the bytes that they are kept in; its equations are in
`minimal_filter.h`. In fp32 it errs by about 1e-6 of a gradient's norm (docs/performance.md).

Source: Lavin and Gray, arXiv 1509.09308, for the filtering; its gradients by transposing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.convolution import Geometry
from model.kernel.sparse.library import is_available

GEOMETRY = Geometry(padding=(1, 1))
TILE = 4  # pixels of its side
CHANNELS, TILES = 32, 8  # with fewer of either, dense is as fast on the one processor tried
LANES = 16  # channels that a processor's widest register holds


def can_filter(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether `filtered_gradients` takes these, and takes less time than the dense convolution.

    Not on other devices than a CPU, in other dtypes than fp32 and fp64, or without a compiler.
    """
    return (
        x.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.float64)
        and x.dtype in (torch.uint8, weight.dtype)
        and geometry == GEOMETRY
        and weight.shape[2:] == (3, 3)
        and all(size >= CHANNELS and size % LANES == 0 for size in weight.shape[:2])
        and _pays(len(x), *x.shape[2:])
        and is_available()
    )


def _pays(N: int, height: int, width: int) -> bool:
    tiles = -(-height // TILE) * -(-width // TILE)
    return N * tiles >= TILES and 36 * tiles <= 9 * height * width  # products, filtered and dense


def filtered_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """dL/dx and dL/dweight of a 3x3 convolution with stride 1 and padding 1, if `can_filter`.

    Args: grad (N, C, H, W), weight (C, Ci, 3, 3), of one dtype; x (N, Ci, H, W), of that or bytes.
    Returns: in the shapes of x and weight, in that dtype.
    """
    return torch.ops.spiking_cpu.convolution_gradients(grad, x, weight)
