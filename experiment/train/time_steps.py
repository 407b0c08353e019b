"""How many time steps a batch of the training gets: the network's T, or a number drawn for each.

    T_k ~ uniform on {T_min, ..., T},  keyed by (seed, epoch, step)

A network trained at one T learns firing rates of T steps, and its early answers are poor. Trained
at all of them it answers after any, and with gradients by rates a step of fewer is cheaper. The
loss of a step is divided by its own T_k.

Source: training over mixed time steps, arXiv 2503.17394; one T for each batch is this project's.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from util.process.sampler import mixed_seed


class TimeSteps(NamedTuple):
    """The time steps of each training step; least: None is always `most`."""

    least: int | None
    most: int
    seed: int

    def of(self, epoch: int, step: int) -> int:
        """T of a step, the same in all processes, and in a run that is resumed there."""
        if self.least is None:
            return self.most
        values = self.most - self.least + 1
        return self.least + mixed_seed("time steps", self.seed, epoch, step) % values

    def cut(self, x: Tensor, T: int) -> Tensor:
        """Of frames (most, B, C, H, W) the first T; an image (B, C, H, W) as it is.

        So are frames of another number, for the network to refuse.
        """
        return x[:T] if x.dim() == 5 and len(x) == self.most else x
