"""Gradients of 3x3 convolutions on a CPU with a quarter of the products: minimal filtering.

A tile of 4x4 pixels takes 36 products of numbers in place of 144; the numbers are sums of pixels,
of gradients and of weights. The work is done by `convolution_gradients.h`, with the equations in
`minimal_filter.h`, which reads counts of spikes as the bytes that they are kept in. In fp32 the
gradients' errors are those of the dense convolution's or up to six times as large, 1e-6 of them.

Source: Lavin and Gray, arXiv 1509.09308, for the filtering; its gradients by transposing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.convolution import Geometry
from model.kernel.sparse.library import is_available

GEOMETRY = Geometry(padding=(1, 1))
TILE, POINTS = 4, 6  # pixels of a tile's side, and numbers that stand for them
# Measured on one processor (docs/performance.md): with less of either, dense is as fast.
CHANNELS, TILES = 32, 8
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
    return N * tiles >= TILES and POINTS**2 * tiles <= 9 * height * width


def filtered_gradients(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """dL/dx and dL/dweight of a 3x3 convolution with stride 1 and padding 1, if `can_filter`.

    Args: grad (N, C, H, W), weight (C, Ci, 3, 3), of one dtype; x (N, Ci, H, W), of that or bytes.
    Returns: in the shapes of x and weight, in that dtype.
    """
    return torch.ops.spiking_cpu.convolution_gradients(grad, x, weight.detach())
