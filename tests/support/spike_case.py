"""Random spikes and weights of a convolution.

Shapes: N maps, Ci and C channels, H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.convolution import Convolution, Geometry


@dataclass(frozen=True)
class SpikeCase:
    """Sizes of a convolution."""

    N: int
    Ci: int
    H: int
    W: int
    C: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def __str__(self) -> str:
        kernel, stride = ("x".join(map(str, pair)) for pair in (self.kernel, self.stride))
        return f"{self.N}x{self.Ci}x{self.H}x{self.W}-to-{self.C}-kernel{kernel}-stride{stride}"

    def arguments(
        self,
        dtype: torch.dtype,
        *,
        channels_last: bool = True,
        bias: bool = True,
        firing: float = 0.3,
    ) -> tuple[Tensor, Convolution]:
        """Spikes (N, Ci, H, W), bytes, and their convolution.

        Weights are fp32 numbers, whose sums are all but exact in float64.
        """
        generator = torch.Generator().manual_seed(0)
        spikes = torch.rand(self.N, self.Ci, self.H, self.W, generator=generator) < firing
        weight = torch.randn(self.C, self.Ci, *self.kernel, generator=generator).to(dtype)
        shift = torch.randn(self.C, generator=generator).to(dtype) if bias else None
        layout = torch.channels_last if channels_last else torch.contiguous_format
        spikes, weight = (
            maps.contiguous(memory_format=layout) for maps in (spikes.to(torch.uint8), weight)
        )
        return spikes, Convolution(weight, shift, Geometry(self.stride, self.padding))
