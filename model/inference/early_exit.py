"""Answers that come as soon as the network is sure: whoever is, takes no further time step.

Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model.abc_model import check_input
from model.inference.folded import FoldedNetwork


class Answers(NamedTuple):
    """logits (B, K), the mean over the time steps taken, and their number (B,), from 1 to T."""

    logits: Tensor
    steps: Tensor


@torch.no_grad()
def answer(
    net: FoldedNetwork, x: Tensor, *, confidence: float = 1.0, T: int | None = None
) -> Answers:
    """Logits of each sample at the first step at which its confidence is above the one given.

    Confidence is the largest probability of the mean of the logits so far. Samples that are done
    leave the batch; what precedes the first neurons is computed once for an image.
    Args: x (B, C, H, W), or frames (T, B, C, H, W); T: steps at most, None is the network's.
    Raises: ValueError for another shape.
    """
    T = net.T if T is None else T
    check_input(x, net.in_channels, T)
    is_image = x.dim() == 4
    driven = net.stem(x) if is_image else None
    going = torch.arange(x.shape[-4], device=x.device)
    logits, potentials, summed, taken = None, [], 0.0, going.new_full(going.shape, T)
    for t in range(T):
        current = driven if is_image else net.stem(x[t, going])
        own, potentials = net.step_after_stem(current, potentials)
        summed = summed + own
        mean = summed / (t + 1)
        logits = mean if logits is None else logits.index_copy(0, going, mean)
        is_done = mean.double().softmax(-1).amax(-1) > confidence
        taken[going[is_done]] = t + 1
        if is_done.all():
            break
        if is_done.any():
            left = ~is_done
            going, summed = going[left], summed[left]
            potentials = [u[left] for u in potentials]
            driven = driven[left] if is_image else None
    return Answers(logits, taken)
