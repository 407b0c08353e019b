"""The hot functions as plain torch operations on the equations of `functional`: the truth.

Other implementations have `fire` and `fire_backward` too, those behind `operator` all of these, and
are tested against them; a kernel makes `fire` of a `fill`, the same into memory that is given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.functional import (
    MAX_COUNT,
    Neuron,
    accumulation_dtype,
    batch_norm_constants,
    lif_steps,
    rate_batch_norm_backward,
    spike_counts,
)
from model.kernel.record import Fired, Gradients, Normalisation, NormState, Source


def fire(
    source: Source,
    neuron: Neuron | None,
    T: int,
    *,
    spike_dtype: torch.dtype | None = None,
    sums: bool = True,
) -> Fired:
    """Batch norm's affine map, residual addition and LIF neurons (`functional.lif_rate`) on

        x_t = scale * current_t + shift + residual_scale * residual_t + residual_shift

    Without neurons, x itself. Nothing is part of a graph.
    T: time steps that the neurons run for; a source that is constant in time repeats.
    spike_dtype: of the train, such as torch.uint8; None is the current's.
    sums: whether what `Fired` has beside the train is wanted.
    """
    current = source.current.values.detach()
    dtype = accumulation_dtype(current.dtype)
    kept = source.kept_dtype(neuron)
    mean = current.mean(0, dtype=dtype).to(kept) if sums else None
    x = source.current._replace(values=current.to(dtype)).mapped()
    if source.residual is not None:
        x = x + source.residual.mapped()
    if neuron is None:
        return Fired(x.to(current.dtype), mean)
    spikes, rate, eligibility = lif_steps(x.expand(T, *x.shape[1:]).unbind(0), neuron)
    train = torch.stack(spikes).to(spike_dtype or current.dtype)
    if not sums:
        return Fired(train)
    counts = spike_counts(rate, T) if T <= MAX_COUNT else None
    return Fired(train, mean, rate, eligibility.to(kept), counts)


def fire_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    norm: Normalisation,
    wants_source: bool,
    *,
    dtype: torch.dtype | None = None,
) -> Gradients:
    """Backward of `fire`, of a current that batch norm made, at the rates.

    Args: grad (B, C, ...), of the rate, or without neurons (eligibility None) of the sum's mean;
    eligibility, y = mean_current (B, C, ...); wants_source: whether a residual needs a gradient;
    dtype: of the current's gradient, that of grad if None. All arithmetic is in that of grad.
    """
    g = grad if eligibility is None else grad * eligibility
    gamma, mean, inverse_std, from_batch, average = norm
    current, *of_norm = rate_batch_norm_backward(
        g, y, mean, inverse_std, gamma, from_batch=from_batch, average=average
    )
    return Gradients(g if wants_source else None, current.to(dtype or grad.dtype), *of_norm)


def batch_statistics(maps: Tensor) -> Tensor:
    """`functional.batch_statistics` of maps (N, C, ...), never below fp32: (2, C)."""
    return torch.stack(_batch_statistics(maps))


def _batch_statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """By ATen's own kernel for batch norm, which reads the maps once."""
    # The buffers only make it return its sums in their dtype; a momentum of 0 leaves them alone.
    running = maps.new_zeros(maps.shape[1], dtype=accumulation_dtype(maps.dtype))
    return torch.batch_norm_update_stats(maps, running, running.clone(), 0.0)


def norm_constants(maps: Tensor, state: NormState, count: int) -> Tensor:
    """`functional.batch_norm_constants` of maps (N, C, ...), as `settled` from their statistics.

    count: the number of values per channel, as often as each counts in the unbiased variance.
    """
    return settled(*_batch_statistics(maps), state, count)


def settled(mean: Tensor, variance: Tensor, state: NormState, count: int) -> Tensor:
    """`norm_constants` from mean and biased variance (C,); the running ones move by them.

    running <- (1 - momentum) running + momentum (mean, variance count / (count - 1))
    """
    gamma, beta, running_mean, running_var, batches, eps, momentum = state
    batches += 1
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    unbiased = variance * (count / (count - 1))
    running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    return batch_norm_constants(mean, variance, gamma, beta, eps)
