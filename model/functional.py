"""Every equation of rate-based training as a plain torch function: the truth that kernels follow.

Sources: "Enhanced Self-Distillation Framework for Efficient Spiking Neural Network Training"
(arXiv 2510.06254) on top of "Advancing Training Efficiency of Deep Spiking Neural Networks
through Rate-based Backpropagation" (arXiv 2410.11488).

Shapes: T time steps, B batch, C channels, ... any further dimensions. Maps over time are laid out
(T*B, C, ...) with index t*B + b where a convolution reads them, (T, B, ...) where time is looped.
Units: membrane potential, threshold and input current share one arbitrary unit; a firing rate is
in spikes per time step: between 0 and 1, or more where spike trains are added up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SURROGATE_SLOPE = 4.0

Average = Callable[[Tensor], Tensor]  # the mean of a tensor over processes that share a batch


class Neuron(NamedTuple):
    """Constants of a leaky integrate-and-fire neuron, in the argument order of `lif_rate`.

    decay: share of the membrane potential kept from one time step to the next, in [0, 1].
    threshold: membrane potential at which the neuron fires (equality fires).
    v_reset: potential after a spike (hard reset), or None to subtract the threshold (soft reset).
    detach_reset: whether gradients ignore the reset. The eligibility follows it for the soft reset
        alone, as published, and has the whole derivative of a hard one; BPTT follows it for both.
    """

    decay: float = 0.2
    threshold: float = 1.0
    v_reset: float | None = None
    detach_reset: bool = True


def surrogate_gradient(v: Tensor, threshold: float) -> Tensor:
    """g = 4 sigma(4 (v - threshold)) (1 - sigma(4 (v - threshold))), the stand-in for ds/dv."""
    q = torch.sigmoid(SURROGATE_SLOPE * (v - threshold))
    return SURROGATE_SLOPE * q * (1 - q)


def reset(v: Tensor, spikes: Tensor, threshold: float, v_reset: float | None) -> Tensor:
    """u = v - threshold * s (soft reset) or u = (1 - s) v + s v_reset (hard reset)."""
    if v_reset is None:
        return v - threshold * spikes
    return (1 - spikes) * v + spikes * v_reset


def next_sensitivity(
    f: Tensor | float, v: Tensor, g: Tensor, spikes: Tensor, neuron: Neuron
) -> Tensor | float:
    """f_{t+1} = 1 + decay * f_t * du_t/dv_t: how v_{t+1} moves with a constant shift of the input.

    soft reset, detached      du/dv = 1                      (f stays a scalar)
    soft reset, not detached  du/dv = 1 - threshold g
    hard reset                du/dv = 1 - s - (v - v_reset) g
    """
    decay, threshold, v_reset, detach_reset = neuron
    if v_reset is not None:
        return 1 + decay * f * (1 - spikes - (v - v_reset) * g)
    if detach_reset:
        return 1 + decay * f
    return 1 + decay * f * (1 - threshold * g)


def lif_rate(
    x: Tensor,
    decay: float = 0.2,
    threshold: float = 1.0,
    v_reset: float | None = None,
    detach_reset: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run LIF neurons over T time steps and return what the rate gradient needs.

        v_t = decay * u_{t-1} + x_t,  u_0 = 0;   s_t = [v_t >= threshold];   u_t = reset(v_t, s_t)
        rate r = (1/T) sum_t s_t;   eligibility e = (1/T) sum_t f_t g_t = dr/dx

    Args: x (T, B, ...), the input current of every time step.
    Returns: spikes (T, B, ...), rate (B, ...), eligibility (B, ...); none is part of a graph.
    Source: arXiv 2410.11488, section 4; the sensitivity f is `next_sensitivity`.
    """
    neuron = Neuron(decay, threshold, v_reset, detach_reset)
    spikes, rate, eligibility = lif_steps(x.detach().unbind(0), neuron)
    return torch.stack(spikes), rate, eligibility


def lif_steps(x: Sequence[Tensor], neuron: Neuron) -> tuple[list[Tensor], Tensor, Tensor]:
    """`lif_rate` on a sequence of T input currents (B, ...); its spikes are a list as well."""
    spikes = []
    eligibility = torch.zeros_like(x[0])
    u: Tensor | float = 0.0
    f: Tensor | float = 1.0
    for x_t in x:
        v = neuron.decay * u + x_t
        s = (v >= neuron.threshold).to(x_t.dtype)
        g = surrogate_gradient(v, neuron.threshold)
        eligibility = eligibility + f * g
        f = next_sensitivity(f, v, g, s, neuron)
        u = reset(v, s, neuron.threshold, neuron.v_reset)
        spikes.append(s)
    return spikes, sum(spikes) / len(x), eligibility / len(x)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Membrane potentials, eligibilities, statistics and means are never computed below fp32."""
    return torch.promote_types(dtype, torch.float32)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Per-channel mean and biased variance of x (N, C, ...), over every dimension but C."""
    dims = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x, dims, correction=0)
    return mean, variance


def per_channel(values: Tensor, channel_map: Tensor, channel_dim: int = 1) -> Tensor:
    """Shape (C,) values so that they broadcast against a map with channels at `channel_dim`."""
    return values.view(-1, *[1] * (channel_map.dim() - channel_dim - 1))


def rate_batch_norm_backward(
    grad: Tensor,
    y: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    gamma: Tensor,
    average: Average | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of gamma * yhat + beta, yhat = (y - mean) * inverse_std, at the mean over time y.

    The statistics' values come from the spike train, their derivatives from the rates, as if
    mean = mean(y) and variance = mean((y - mean)^2) over B, H, W:
        dL/dy = gamma * inverse_std * (grad - mean(grad) - ycheck * mean(grad * yhat))
        dgamma = sum grad * yhat,   dbeta = sum grad
    with ycheck = (y - mean(y)) * inverse_std. Where y is the time mean of what the statistics saw,
    ycheck = yhat and this is the ordinary batch-norm backward.

    Args: grad, y (B, C, ...); mean, inverse_std, gamma (C,); average: for several processes that
    hold equal parts of the batch, the mean of a tensor over them (then every mean( ) above is over
    all, dgamma and dbeta are of this part). Returns: (B, C, ...), (C,), (C,).
    """
    dims = [d for d in range(y.dim()) if d != 1]
    count = y.numel() // y.shape[1]
    inverse_std_map = per_channel(inverse_std, y)
    normalised = (y - per_channel(mean, y)) * inverse_std_map
    grad_gamma = (grad * normalised).sum(dims)
    grad_beta = grad.sum(dims)
    mean_y = y.mean(dims, dtype=accumulation_dtype(y.dtype))
    means = mean_y, grad_beta / count, grad_gamma / count
    if average is not None:
        means = average(torch.stack([value.to(grad_beta.dtype) for value in means])).unbind()
    mean_y, mean_grad, mean_product = (per_channel(value, y) for value in means)
    centred = (y - mean_y) * inverse_std_map
    grad_y = (per_channel(gamma, y) * inverse_std_map) * (grad - mean_grad - centred * mean_product)
    return grad_y, grad_gamma, grad_beta


def affine(maps: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """scale * maps + shift for maps (T, B, C, ...) and (C,) values; None means absent."""
    if scale is None:
        return maps
    return maps * per_channel(scale, maps, 2) + per_channel(shift, maps, 2)


class Fired(NamedTuple):
    """What a normalised, firing layer hands on. Shapes: (T, B, C, ...) and three (B, C, ...)."""

    spikes: Tensor
    rate: Tensor
    eligibility: Tensor
    mean_current: Tensor


def norm_lif_rate(
    current: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    steps: int,
    neuron: Neuron,
    overwrite: bool = False,
    residual_scale: Tensor | None = None,
    residual_shift: Tensor | None = None,
    compact: bool = False,
) -> Fired:
    """Batch norm's affine map, residual addition and LIF neurons (`lif_rate`) on

        x_t = scale * current_t + shift + residual_scale * residual_t + residual_shift

    Args: current (T, B, C, ...), or (1, B, C, ...) when constant in time; residual likewise, or
    None; scales and shifts (C,), or None for 1 and 0; steps T; overwrite: whether the memory of
    current may be reused for the result; compact: whether spikes are bytes (torch.uint8).
    Returns: Fired; its mean_current is the time mean of current, before normalisation. Spikes have
    current's dtype unless compact, the rest is never below fp32.
    """
    dtype = accumulation_dtype(current.dtype)
    x, mean = norm_rate(
        current.to(dtype), scale, shift, residual, False, residual_scale, residual_shift
    )
    spikes, rate, eligibility = lif_rate(x.expand(steps, *x.shape[1:]), *neuron)
    return Fired(spikes.to(spike_dtype(current, compact)), rate, eligibility, mean)


def spike_dtype(current: Tensor, compact: bool) -> torch.dtype:
    """Of the spikes that an input current makes."""
    return torch.uint8 if compact else current.dtype


def norm_rate(
    current: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    overwrite: bool = False,
    residual_scale: Tensor | None = None,
    residual_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`norm_lif_rate` without neurons: (x (T, B, C, ...), mean_current (B, C, ...))."""
    x = affine(current, scale, shift)
    if residual is not None:
        x = x + affine(residual, residual_scale, residual_shift)
    return x.to(current.dtype), current.mean(0, dtype=accumulation_dtype(current.dtype))


def lif_spikes(x: Tensor, steps: int, neuron: Neuron) -> Tensor:
    """Spikes alone, for inference. Args: x (T, B, ...) or (1, B, ...). Returns: (T, B, ...)."""
    current = x.to(accumulation_dtype(x.dtype)).expand(steps, *x.shape[1:])
    return lif_rate(current, *neuron)[0].to(x.dtype)


def norm_lif_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    gamma: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    from_batch: bool,
    wants_sum: bool,
    average: Average | None = None,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """Backward of `norm_lif_rate` (of `norm_rate` where eligibility is None) at the rates.

    Args: grad, eligibility, y = mean_current (B, C, ...); gamma, mean, inverse_std (C,);
    from_batch: whether mean and inverse_std are those of the batch, not constants; wants_sum:
    whether the gradient of the sum (of norm and residual) is needed; average: as in
    `rate_batch_norm_backward`.
    Returns: gradients of that sum (or None), of y, gamma and beta.
    """
    g = grad if eligibility is None else grad * eligibility
    if from_batch:
        g_y, g_gamma, g_beta = rate_batch_norm_backward(g, y, mean, inverse_std, gamma, average)
    else:
        dims = [d for d in range(y.dim()) if d != 1]
        normalised = (y - per_channel(mean, y)) * per_channel(inverse_std, y)
        g_y = g * per_channel(gamma * inverse_std, y)
        g_gamma, g_beta = (g * normalised).sum(dims), g.sum(dims)
    return g if wants_sum else None, g_y, g_gamma, g_beta
