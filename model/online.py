"""Online training: the layers of one time step, whose past is remembered but not differentiated.

    v_t = decay * u_{t-1} + x_t  with u_{t-1} a constant;   s_t = [v_t >= threshold]
    dL/dx_t = dL/ds_t * g_t;   dL/dW = sum_t dL/dx_t * abar_t^T
    abar_t = a_t (sltt)   or   abar_t = decay * abar_{t-1} + a_t (ottt)

with a_t what the layer reads and g the surrogate gradient. After each time step its loss is
differentiated and its graph is freed, so what is kept does not grow with T, while the backward
passes are T. As published, layers that read the image itself see no trace.

Sources: SLTT, arXiv 2302.14311; OTTT, arXiv 2210.04195.
Shapes: B batch, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import functional
from model.convolution import Convolution, convolution_backward
from model.functional import Neuron
from model.through_time import lif_step


class Past(NamedTuple):
    """What a layer remembers of the time steps before.

    potential: (B, ...), after the reset; None of a layer that is no layer of neurons.
    trace: (B, ...), of its output; None without traces.
    """

    potential: Tensor | None
    trace: Tensor | None


Memory = dict[nn.Module, Past]


class OnlineStep(NamedTuple):
    """An activation at one time step.

    value: (B, ...), in the graph of this time step.
    trace: (B, ...), the decaying sum of value so far, outside the graph; None where weights see
        the value itself.
    memory: the past of the layers that have one; each replaces its own.
    trace_decay: share of a trace that is kept from one time step to the next; None: no traces.
    """

    value: Tensor
    trace: Tensor | None
    memory: Memory
    trace_decay: float | None


def fire(x: OnlineStep, layer: nn.Module, neuron: Neuron) -> OnlineStep:
    """LIF neurons of `layer` at one time step; from rest if the memory has none of it."""
    past = x.memory.get(layer)
    current = x.value.to(functional.accumulation_dtype(x.value.dtype))
    spikes, potential = lif_step(current, 0.0 if past is None else past.potential, neuron)
    spikes = spikes.to(x.value.dtype)
    trace = _next_trace(spikes, past, x.trace_decay)
    x.memory[layer] = Past(potential.detach(), trace)
    return x._replace(value=spikes, trace=trace)


def _next_trace(value: Tensor, past: Past | None, decay: float | None) -> Tensor | None:
    """abar_t = decay abar_{t-1} + a_t of a layer's output a_t; None without traces."""
    if decay is None:
        return None
    return value.detach() if past is None else value.detach() + decay * past.trace


def convolve(x: OnlineStep, convolution: Convolution) -> OnlineStep:
    """The convolution of the value; the gradient of its weight is taken at the trace."""
    if x.trace is None:
        return x._replace(value=F.conv2d(x.value, *convolution))
    with torch.no_grad():
        out = F.conv2d(x.value, *convolution)
    out = _AtTrace.apply(out, x.value, x.trace, *convolution[:2], convolution[2:])
    return x._replace(value=out, trace=None)


def linear(x: OnlineStep, weight: Tensor, bias: Tensor | None) -> OnlineStep:
    """A linear layer (B, C) -> (B, K), as a convolution of maps of one pixel."""
    pixel = map_step(lambda values: values[..., None, None], x)
    kernel = Convolution(weight[..., None, None], bias, (1, 1), (0, 0), (1, 1), 1)
    return map_step(lambda maps: maps.flatten(1), convolve(pixel, kernel))


def map_step(operation: Callable[[Tensor], Tensor], x: OnlineStep) -> OnlineStep:
    """Apply a linear operation without weights (a norm's map, pooling) to value and trace."""
    trace = None if x.trace is None else operation(x.trace)
    return x._replace(value=operation(x.value), trace=trace)


def pool_maximum(
    x: OnlineStep, layer: nn.Module, operation: Callable[[Tensor], Tensor]
) -> OnlineStep:
    """Max pooling by `layer`: not linear, so its output has a trace of its own."""
    value = operation(x.value)
    if x.trace is None:
        return x._replace(value=value)
    trace = _next_trace(value, x.memory.get(layer), x.trace_decay)
    x.memory[layer] = Past(None, trace)
    return x._replace(value=value, trace=trace)


def add(x: OnlineStep, y: OnlineStep) -> OnlineStep:
    """The sum of two activations and of their traces; without a trace where either has none."""
    has_traces = x.trace is not None and y.trace is not None
    return x._replace(value=x.value + y.value, trace=x.trace + y.trace if has_traces else None)


class _AtTrace(torch.autograd.Function):
    """Gives a convolution, computed outside the graph, its gradients.

    g_x = the convolution's own, which does not depend on x;   g_weight at the trace in place of x.
    """

    @staticmethod
    def forward(ctx, out, value, trace, weight, bias, geometry):
        ctx.save_for_backward(trace.to(out.dtype), weight)
        ctx.geometry, ctx.value_dtype = geometry, value.dtype
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        trace, weight = ctx.saved_tensors
        needs = (ctx.needs_input_grad[1], *ctx.needs_input_grad[3:5])
        g_x, g_weight, g_bias = convolution_backward(
            grad, trace, weight.to(grad.dtype), ctx.geometry, needs
        )
        g_x = None if g_x is None else g_x.to(ctx.value_dtype)
        g_weight, g_bias = (None if g is None else g.to(weight.dtype) for g in (g_weight, g_bias))
        return None, g_x, None, g_weight, g_bias, None
