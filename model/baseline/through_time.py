"""Backpropagation through time: a spike train under autograd, with a surrogate gradient.

Source: surrogate gradients, arXiv 1901.09948. Shapes: T time steps, B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model import functional
from model.functional import Neuron
from model.spike_train import SpikeTrain


class ThroughTime(SpikeTrain):
    """A spike train that is part of the graph wherever its input current is."""

    def spikes(self, current: Tensor, neuron: Neuron) -> Tensor:
        """As of a `SpikeTrain`, in the graph if the current is."""
        if not current.requires_grad:
            return super().spikes(current, neuron)
        return lif_through_time(current.expand(self.T, *current.shape[1:]), neuron)


def lif_through_time(x: Tensor, neuron: Neuron) -> Tensor:
    """`lif_step` with autograd through all T steps.

    Args: x (T, B, ...). Returns: spikes (T, B, ...) with the graph attached.
    """
    spikes = []
    u: Tensor | float = 0.0
    for x_t in x.to(functional.accumulation_dtype(x.dtype)).unbind(0):
        s, u = lif_step(x_t, u, neuron)
        spikes.append(s.to(x.dtype))
    return torch.stack(spikes)


def lif_step(x: Tensor, u: Tensor | float, neuron: Neuron) -> tuple[Tensor, Tensor]:
    """One time step of a neuron: (spikes, potential after reset), both in the graph.

    Args: x (B, ...), input current; u (B, ...), the potential after the last reset, 0 at rest.
    """
    v = neuron.decay * u + x
    s = _SurrogateSpike.apply(v, neuron)
    # The spike still lowers the potential; detached, no gradient says that it did.
    followed = s.detach() if neuron.detach_reset else s
    return s, neuron.reset(v, followed)


class _SurrogateSpike(torch.autograd.Function):
    """s = [v >= threshold] with ds/dv replaced by the surrogate gradient."""

    @staticmethod
    def forward(ctx, v: Tensor, neuron: Neuron) -> Tensor:
        ctx.save_for_backward(v)
        ctx.neuron = neuron
        return (v >= neuron.threshold).to(v.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        (v,) = ctx.saved_tensors
        return grad * ctx.neuron.surrogate_gradient(v), None
