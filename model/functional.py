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

SURROGATE_SLOPE = 4.0  # per unit of membrane potential
MAX_COUNT = 255  # spikes that one byte counts

Average = Callable[[Tensor], Tensor]  # the mean of a tensor over processes that share a batch


class Neuron(NamedTuple):
    """A leaky integrate-and-fire neuron, its constants in the argument order of `lif_rate`.

    decay: share of the membrane potential kept from one time step to the next, in [0, 1].
    threshold: membrane potential at which the neuron fires (equality fires).
    v_reset: potential after a spike (hard reset), or None to subtract the threshold (soft reset).
    detach_reset: whether gradients ignore the reset. The eligibility follows it for the soft reset
        alone, as published, and has the whole derivative of a hard one; BPTT follows it for both.

    Another reset or surrogate gradient is a subclass with these methods.
    """

    decay: float = 0.2
    threshold: float = 1.0
    v_reset: float | None = None
    detach_reset: bool = True

    def reset(self, v: Tensor, spikes: Tensor) -> Tensor:
        """u = v - threshold * s (soft reset) or u = (1 - s) v + s v_reset (hard reset)."""
        if self.v_reset is None:
            return v - self.threshold * spikes
        return (1 - spikes) * v + spikes * self.v_reset

    def surrogate_gradient(self, v: Tensor) -> Tensor:
        """g, the stand-in for ds/dv."""
        return surrogate_gradient(v, self.threshold)

    def next_sensitivity(
        self, f: Tensor | float, v: Tensor, g: Tensor, spikes: Tensor
    ) -> Tensor | float:
        """f_{t+1} = 1 + decay * f_t * du_t/dv_t: how v_{t+1} moves with a constant input shift.

        soft reset, detached      du/dv = 1                      (f stays a scalar)
        soft reset, not detached  du/dv = 1 - threshold g
        hard reset                du/dv = 1 - s - (v - v_reset) g
        """
        if self.v_reset is not None:
            return 1 + self.decay * f * (1 - spikes - (v - self.v_reset) * g)
        if self.detach_reset:
            return 1 + self.decay * f
        return 1 + self.decay * f * (1 - self.threshold * g)


def surrogate_gradient(v: Tensor, threshold: float) -> Tensor:
    """g = 4 sigma(4 (v - threshold)) (1 - sigma(4 (v - threshold))), the stand-in for ds/dv."""
    q = torch.sigmoid(SURROGATE_SLOPE * (v - threshold))
    return SURROGATE_SLOPE * q * (1 - q)


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
    Source: arXiv 2410.11488, section 4; the sensitivity f is `Neuron.next_sensitivity`.
    """
    neuron = Neuron(decay, threshold, v_reset, detach_reset)
    spikes, rate, eligibility = lif_steps(x.detach().unbind(0), neuron)
    return torch.stack(spikes), rate, eligibility


def lif_steps(x: Sequence[Tensor], neuron: Neuron) -> tuple[list[Tensor], Tensor, Tensor]:
    """`lif_rate` on a sequence of T input currents (B, ...); its spikes are a list as well."""
    spikes = []
    eligibility = torch.zeros_like(x[0])
    u: Tensor | float = 0.0
    f: Tensor | float = 1.0  # v_1 is x_1 itself
    for x_t in x:
        v = neuron.decay * u + x_t
        s = (v >= neuron.threshold).to(x_t.dtype)
        g = neuron.surrogate_gradient(v)
        eligibility = eligibility + f * g  # with f_t: only the next potential feels this reset
        f = neuron.next_sensitivity(f, v, g, s)
        u = neuron.reset(v, s)
        spikes.append(s)
    return spikes, sum(spikes) / len(x), eligibility / len(x)


def spike_counts(rate: Tensor, T: int) -> Tensor:
    """T times a rate as bytes, whole numbers up to MAX_COUNT; exact although a rate is rounded."""
    half = rate.new_full((), 0.5)
    return torch.add(half, rate, alpha=T).to(torch.uint8)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Membrane potentials, eligibilities, statistics and means are never computed below fp32."""
    return torch.promote_types(dtype, torch.float32)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Per-channel mean and biased variance of x (N, C, ...), over every dimension but C."""
    dims = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x, dims, correction=0)  # biased: as batch norm divides by N
    return mean, variance


def batch_norm_constants(
    mean: Tensor, variance: Tensor, gamma: Tensor, beta: Tensor, eps: float
) -> Tensor:
    """What batch norm, gamma (y - mean) inverse_std + beta = scale y + shift, is made of.

        inverse_std = 1 / sqrt(variance + eps)
        scale = gamma inverse_std,   shift = beta - mean scale

    Args: (C,) each. Returns: (4, C), the rows mean, inverse_std, scale and shift.
    """
    inverse_std = torch.rsqrt(variance + eps)
    scale = gamma * inverse_std
    return torch.stack([mean, inverse_std, scale, beta - mean * scale])


def per_channel(values: Tensor, channel_map: Tensor, channel_dim: int = 1) -> Tensor:
    """Shape (C,) values so that they broadcast against a map with channels at `channel_dim`."""
    return values.view(-1, *[1] * (channel_map.dim() - channel_dim - 1))


def rate_batch_norm_backward(
    grad: Tensor,
    y: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    gamma: Tensor,
    *,
    from_batch: bool = True,
    average: Average | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of gamma * yhat + beta, yhat = (y - mean) * inverse_std, at the mean over time y.

    The statistics' values come from the spike train, their derivatives from the rates, as if
    mean = mean(y) and variance = mean((y - mean)^2) over B, H, W:
        dL/dy = gamma * inverse_std * (grad - mean(grad) - ycheck * mean(grad * yhat))
        dgamma = sum grad * yhat,   dbeta = sum grad
    with ycheck = (y - mean(y)) * inverse_std. Where y is the time mean of what the statistics saw,
    ycheck = yhat and this is the ordinary batch-norm backward.

    Args: grad, y (B, C, ...); mean, inverse_std, gamma (C,); from_batch: False for running
    statistics, which do not depend on y (then no mean( ) above is subtracted); average: for several
    processes that hold equal parts of the batch, the mean of a tensor over them (then every mean( )
    is over all, dgamma and dbeta are of this part). Returns: (B, C, ...), (C,), (C,).
    """
    dims = [d for d in range(y.dim()) if d != 1]
    count = y.numel() // y.shape[1]
    inverse_std_map = per_channel(inverse_std, y)
    scale = per_channel(gamma, y) * inverse_std_map
    normalised = (y - per_channel(mean, y)) * inverse_std_map
    grad_gamma = (grad * normalised).sum(dims)
    grad_beta = grad.sum(dims)
    if not from_batch:
        return scale * grad, grad_gamma, grad_beta
    mean_y = y.mean(dims, dtype=accumulation_dtype(y.dtype))
    means = mean_y, grad_beta / count, grad_gamma / count
    if average is not None:
        means = average(torch.stack([value.to(grad_beta.dtype) for value in means])).unbind()
    mean_y, mean_grad, mean_product = (per_channel(value, y) for value in means)
    centred = (y - mean_y) * inverse_std_map
    return scale * (grad - mean_grad - centred * mean_product), grad_gamma, grad_beta
