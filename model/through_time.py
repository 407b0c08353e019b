"""The neurons of `functional` under autograd: one time step, or all of them (BPTT).

Source: surrogate gradients, arXiv 1901.09948. Shapes: T time steps, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model import functional
from model.functional import Neuron


class _SurrogateSpike(torch.autograd.Function):
    """s = [v >= threshold] with ds/dv replaced by the surrogate gradient."""

    @staticmethod
    def forward(ctx, v: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(v)
        ctx.threshold = threshold
        return (v >= threshold).to(v.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return grad * functional.surrogate_gradient(v, ctx.threshold), None


def lif_step(x: Tensor, u: Tensor | float, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """One time step of a neuron: (spikes, potential after reset), both in the graph.

    Args: x (B, ...), input current; u (B, ...), the potential after the last reset, 0 at rest.
    """
    v = neuron.decay * u + x
    s = _SurrogateSpike.apply(v, neuron.threshold)
    followed = s.detach() if neuron.detach_reset else s
    return s, functional.reset(v, followed, neuron.threshold, neuron.v_reset)


def lif_through_time(x: Tensor, neuron: Neuron) -> Tensor:
    """`lif_step` with autograd through all T steps (BPTT with a surrogate gradient).

    Args: x (T, B, ...). Returns: spikes (T, B, ...) with the graph attached.
    """
    spikes = []
    u: Tensor | float = 0.0
    for x_t in x.to(functional.accumulation_dtype(x.dtype)).unbind(0):
        s, u = lif_step(x_t, u, neuron)
        spikes.append(s.to(x.dtype))
    return torch.stack(spikes)
