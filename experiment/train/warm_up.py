"""The first steps of a training are small: its learning rate rises from near 0. Not in the paper.

    rate of step i = rate of its epoch * min(1, (i + 1) / n)

i: steps since the training began; n: those of the warm-up, in which whole epochs are not needed.

Source: arXiv 1706.02677, section 2.2 (gradual warm-up).
"""

from __future__ import annotations

from typing import NamedTuple


class WarmUp(NamedTuple):
    """epochs: how long it takes, 0: no time; steps: of an epoch."""

    epochs: float
    steps: int

    def factor(self, epoch: int, step: int) -> float:
        """Of the learning rate of a step: of its place alone, so that a run goes on anywhere."""
        done, length = epoch * self.steps + step + 1, self.epochs * self.steps
        return done / length if done < length else 1.0
