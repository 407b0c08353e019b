"""What backpropagation through time and inference know of a static image: it never changes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Still(NamedTuple):
    """An activation that is constant in time: a static image, up to the first neurons.

    Its layers run once, not T times. The activation of rate-based training and that of an online
    step have no need of it.

    maps: (B, ...); steps: the time steps T that they stand for.
    """

    maps: Tensor
    steps: int

    def over_time(self) -> Tensor:
        """maps as (1, B, ...)."""
        return self.maps[None]

    def repeated(self) -> Tensor:
        """(T*B, ...) with index t*B + b, in the maps' memory layout."""
        return torch.cat([self.maps] * self.steps)
