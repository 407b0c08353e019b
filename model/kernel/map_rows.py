"""Maps of any dense layout as rows and columns, one of which is the channel."""

from __future__ import annotations

import torch
from torch import Tensor

from model.kernel.record import Maps, Source, layout_of


class MapRows:
    """Views of maps (T, B, C, ...) as (T, rows, columns), and their channels' broadcasting.

    Columns are the channels where those are contiguous in memory (channels_last, or no spatial
    dimensions); otherwise a row is one channel of one sample and columns are its pixels.
    """

    def __init__(self, maps: Tensor):
        self.batch, self.channels, *self.spatial = maps.shape[1:]
        self.channels_inside = not self.spatial or layout_of(maps[0]) is torch.channels_last

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

    def per_channel(self, values: Tensor | None) -> Tensor | None:
        """(C,) -> (1 or rows, 1 or columns)."""
        if values is None:
            return None
        return values[None] if self.channels_inside else values.repeat(self.batch)[:, None]

    def terms(self, source: Source) -> list[Maps]:
        """The current and, if there is one, the residual: as rows, with scales that broadcast."""
        terms = [source.current] if source.residual is None else [source.current, source.residual]
        return [
            Maps(self.flatten(values), self.per_channel(scale), self.per_channel(shift))
            for values, scale, shift in terms
        ]
