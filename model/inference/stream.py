"""A folded network that sees one frame after the other, and keeps what lies between them.

Shapes: B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.inference.folded import FoldedNetwork


class Stream:
    """A network that watches: one frame in, the logits so far out; for any number of frames.

    stream = Stream(net)
    for frame in frames:                    # (B, C, H, W)
        logits = stream.step(frame)         # (B, K), the mean over the frames so far
    stream.reset()                          # before the next scene
    """

    def __init__(self, net: FoldedNetwork):
        self.net = net
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: potentials at rest."""
        self.steps = 0
        self._potentials: list[Tensor] = []
        self._sum: Tensor | None = None

    @torch.no_grad()
    def step(self, frame: Tensor) -> Tensor:
        """See one frame (B, C, H, W); returns the mean of the logits so far (B, K)."""
        logits, self._potentials = self.net.step(frame, self._potentials)
        self._sum = logits if self._sum is None else self._sum + logits
        self.steps += 1
        return self._sum / self.steps
