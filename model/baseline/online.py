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

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from model import functional
from model.activation import replaced
from model.baseline.through_time import lif_step
from model.convolution import Convolution, convolution_backward, subsample
from model.functional import Neuron

if TYPE_CHECKING:
    from model.abc_model import RateModel
    from model.layer import ConvNorm, LIFLayer, MaxPool


class Past(NamedTuple):
    """What a layer remembers of the time steps before.

    potential: (B, ...), after the reset; None of a layer that is no layer of neurons.
    trace: (B, ...), of its output; None without traces.
    """

    potential: Tensor | None
    trace: Tensor | None


Memory = dict[nn.Module, Past]


class OnlineStep(NamedTuple):
    """An activation at one time step; its verbs are those of `activation.Activation`.

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

    @property
    def rate(self) -> Tensor:
        """What this time step adds to the mean over time (B, ...)."""
        return self.value

    def over_time(self) -> Tensor:
        return self.value[None]

    def conv_norm(
        self, layer: ConvNorm, residual: OnlineStep | None = None, neuron: Neuron | None = None
    ) -> OnlineStep:
        steps, convolution = Convolution.of(layer.conv).unstrided()
        x = self.map(lambda maps: subsample(maps, steps))._convolved(convolution).map(layer.norm)
        if residual is not None:
            x = x.add(residual)
        return x if neuron is None else x._fired(layer, neuron)

    def shortcut(self, layer: ConvNorm) -> OnlineStep:
        return self.conv_norm(layer)

    def fire(self, layer: LIFLayer) -> OnlineStep:
        return self._fired(layer, layer.neuron)

    def linear(self, layer: nn.Linear) -> OnlineStep:
        # As a convolution of maps of one pixel, which knows how to take its gradient at the trace.
        pixel = self.map(lambda values: values[..., None, None])
        convolution = Convolution(layer.weight[..., None, None], layer.bias)
        return pixel._convolved(convolution).map(lambda maps: maps.flatten(1))

    def map(self, operation: Callable[[Tensor], Tensor]) -> OnlineStep:
        trace = None if self.trace is None else operation(self.trace)
        return replaced(self, value=operation(self.value), trace=trace)

    def max_pool(self, layer: MaxPool) -> OnlineStep:
        """Not linear, so the maxima have a trace of their own."""
        value = layer.pool(self.value)
        if self.trace is None:
            return replaced(self, value=value)
        trace = self._next_trace(value, self.memory.get(layer))
        self.memory[layer] = Past(None, trace)
        return replaced(self, value=value, trace=trace)

    def add(self, other: OnlineStep) -> OnlineStep:
        """The sum, and that of the traces; without a trace where either has none."""
        has_traces = self.trace is not None and other.trace is not None
        trace = self.trace + other.trace if has_traces else None
        return replaced(self, value=self.value + other.value, trace=trace)

    def _fired(self, layer: nn.Module, neuron: Neuron) -> OnlineStep:
        """From rest if the memory has no past of `layer`."""
        past = self.memory.get(layer)
        current = self.value.to(functional.accumulation_dtype(self.value.dtype))
        spikes, potential = lif_step(current, 0.0 if past is None else past.potential, neuron)
        spikes = spikes.to(self.value.dtype)
        trace = self._next_trace(spikes, past)
        self.memory[layer] = Past(potential.detach(), trace)
        return replaced(self, value=spikes, trace=trace)

    def _next_trace(self, value: Tensor, past: Past | None) -> Tensor | None:
        """abar_t = decay abar_{t-1} + a_t of a layer's output a_t; None without traces."""
        if self.trace_decay is None:
            return None
        return value.detach() if past is None else value.detach() + self.trace_decay * past.trace

    def _convolved(self, convolution: Convolution) -> OnlineStep:
        """The convolution of the value; the gradient of its weight is taken at the trace."""
        if self.trace is None:
            return replaced(self, value=convolution(self.value))
        value = _ConvolutionAtTrace.apply(self.value, self.trace, *convolution)
        return replaced(self, value=value, trace=None)


class Online(NamedTuple):
    """How a network passes a batch online: one time step after the other.

    traces: whether weights see presynaptic traces (ottt) or the spikes themselves (sltt).
    """

    traces: bool

    def steps(self, net: RateModel, x: Tensor, T: int | None = None) -> Iterator[OnlineStep]:
        """The T time steps of a batch, each of which `net` takes in place of the whole batch.

        Each is to be run, and its loss to be differentiated, before the next is asked for.
        Args: x (B, C, H, W), a static image, or (T, B, C, H, W), frames; T as in `RateModel`.
        """
        T = net.steps_of(x, T)
        memory: Memory = {}
        trace_decay = net.neuron.decay if self.traces else None
        for t in range(T):
            yield OnlineStep(x if x.dim() == 4 else x[t], None, memory, trace_decay)

    def __call__(self, net: RateModel, x: Tensor, T: int | None = None) -> list[Tensor]:
        """The mean of the steps' logits, [(B, K)], with the graphs of all steps."""
        return [torch.stack([net(step)[-1] for step in self.steps(net, x, T)]).mean(0)]


class _ConvolutionAtTrace(torch.autograd.Function):
    """A convolution of a value that has a trace, both (B, Ci, H, W).

    g_x = the convolution's own, which does not depend on x;   g_weight at the trace in place of x.
    """

    @staticmethod
    def forward(ctx, value, trace, *convolution):
        convolution = Convolution(*convolution)
        out = convolution(value)  # (B, C, H', W')
        ctx.save_for_backward(trace.to(out.dtype), convolution.weight)
        ctx.geometry = convolution.geometry
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):  # (B, C, H', W')
        trace, weight = ctx.saved_tensors  # (B, Ci, H, W), (C, Ci/groups, k, k)
        needs_value, _, *needs_convolution = ctx.needs_input_grad
        g_x, g_weight, g_bias = convolution_backward(
            grad, trace, weight, ctx.geometry, (needs_value, *needs_convolution[:2])
        )
        return g_x, None, g_weight, g_bias, None  # shaped like value, weight and bias
