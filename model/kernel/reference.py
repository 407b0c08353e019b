"""The hot functions as plain torch operations on the equations of `functional`: the truth.

Other implementations have the same two functions and are tested against these; those behind
`operator` make `fire` of a `fill`, which is the same into memory that is given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.functional import Neuron, accumulation_dtype, lif_steps, rate_batch_norm_backward
from model.kernel.record import Fired, Gradients, Normalisation, Source


def fire(
    source: Source, neuron: Neuron | None, T: int, *, compact: bool = False, sums: bool = True
) -> Fired:
    """Batch norm's affine map, residual addition and LIF neurons (`functional.lif_rate`) on

        x_t = scale * current_t + shift + residual_scale * residual_t + residual_shift

    Without neurons, x itself. Nothing is part of a graph.
    T: time steps that the neurons run for; a source that is constant in time repeats.
    compact: whether spikes are bytes (torch.uint8), else they have the current's dtype.
    sums: whether rate, eligibility and mean current are wanted beside the train.
    """
    current = source.current.values.detach()
    dtype = accumulation_dtype(current.dtype)
    mean = current.mean(0, dtype=dtype) if sums else None
    x = source.current._replace(values=current.to(dtype)).mapped()
    if source.residual is not None:
        x = x + source.residual.mapped()
    if neuron is None:
        return Fired(x.to(current.dtype), mean)
    spikes, rate, eligibility = lif_steps(x.expand(T, *x.shape[1:]).unbind(0), neuron)
    train = torch.stack(spikes).to(torch.uint8 if compact else current.dtype)
    return Fired(train, mean, rate, eligibility) if sums else Fired(train)


def fire_backward(
    grad: Tensor, eligibility: Tensor | None, y: Tensor, norm: Normalisation, wants_source: bool
) -> Gradients:
    """Backward of `fire`, of a current that batch norm made, at the rates.

    Args: grad (B, C, ...), of the rate, or without neurons (eligibility None) of the sum's mean;
    eligibility, y = mean_current (B, C, ...); wants_source: whether a residual needs a gradient.
    """
    g = grad if eligibility is None else grad * eligibility
    gamma, mean, inverse_std, from_batch, average = norm
    of_norm = rate_batch_norm_backward(
        g, y, mean, inverse_std, gamma, from_batch=from_batch, average=average
    )
    return Gradients(g if wants_source else None, *of_norm)
