"""Maps of any dense layout as rows and columns, one of which is the channel."""

from __future__ import annotations

import torch
from torch import Tensor


class MapRows:
    """Views of maps (T, B, C, ...) as (T, rows, columns), and their channels' broadcasting.

    Columns are the channels where those are contiguous in memory (channels_last, or no spatial
    dimensions); otherwise a row is one channel of one sample and columns are its pixels.
    """

    def __init__(self, maps: Tensor):
        self.batch, self.channels, *self.spatial = maps.shape[1:]
        frame = maps[0]
        self.channels_inside = not self.spatial or (
            frame.dim() == 4 and frame.is_contiguous(memory_format=torch.channels_last)
        )

    def flatten(self, maps: Tensor) -> Tensor:
        """(T, B, C, ...) -> (T, rows, columns), a view wherever the memory layout allows it."""
        if self.channels_inside:
            return maps.movedim(2, -1).reshape(maps.shape[0], -1, self.channels)
        return maps.reshape(maps.shape[0], self.batch * self.channels, -1)

    def unflatten(self, rows: Tensor) -> Tensor:
        """(T, rows, columns) -> (T, B, C, ...), always a view."""
        if self.channels_inside:
            maps = rows.view(rows.shape[0], self.batch, *self.spatial, self.channels)
            return maps.movedim(-1, 2)
        return rows.view(rows.shape[0], self.batch, self.channels, *self.spatial)

    def per_channel(self, values: Tensor) -> Tensor:
        """(C,) -> (1 or rows, 1 or columns)."""
        return values[None] if self.channels_inside else values.repeat(self.batch)[:, None]
