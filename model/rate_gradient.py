"""Rate-based backpropagation: the gradient of a layer, evaluated once, at the firing rates.

The forward pass computes rates outside the graph (`rate_pair`). The functions here put them into
it: their value stays, and their backward is that of the layer at the mean over time,

    g       = dL/drate * eligibility     (B, C, H', W');  without neurons g = dL/drate
    g_res   = g                          (B, C, H', W')
    g_y, g_gamma, g_beta                 batch norm's backward of g at the mean current y
    g_x, g_weight, g_bias                the convolution's backward of g_y at the input rate

Kept for it: the input rate, the mean current and the eligibility; none grows with T.

Source: arXiv 2410.11488, section 4. The equations are in `functional`.
Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model import kernel
from model.convolution import Convolution, Geometry
from model.functional import Average, spike_counts
from model.kernel import Execution, Normalisation


class Plan(NamedTuple):
    """What the backward of a layer needs to know beside tensors.

    geometry: of the convolution.
    from_batch, average: as in `kernel.Normalisation`.
    execution: how the backward is computed.
    count_steps: T if the input's rate is kept as a count over T, exact in one byte, else None.
    dtype: of the forward convolution, in which mean current and eligibility are kept.
    rate_is_mean: whether the input's rate is the mean of what the statistics saw.
    """

    geometry: Geometry
    from_batch: bool
    average: Average | None
    execution: Execution
    count_steps: int | None
    dtype: torch.dtype
    rate_is_mean: bool

    @property
    def backward_dtype(self) -> torch.dtype:
        return self.execution.convolution_backward or self.dtype


class LayerPass(NamedTuple):
    """A layer's pass, seen by its rates; its gradients come back as the same record.

    rate: (B, C, H', W'), the result's value.
    x: (B, Ci, H, W), the input's rate; counts: T times that as bytes, where they are at hand.
    residual: (B, C, H', W'), the rate of what is added, or None.
    weight (C, Ci/groups, k, k), bias (C,) or None, gamma, beta (C,): parameters.
    mean, inverse_std: (C,), of batch norm.
    mean_current: (B, C, H', W'), y, the time mean of the convolution's result.
    eligibility: (B, C, H', W'), None without neurons; in the plan's dtype.
    """

    rate: Tensor | None = None
    x: Tensor | None = None
    counts: Tensor | None = None
    residual: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    gamma: Tensor | None = None
    beta: Tensor | None = None
    mean: Tensor | None = None
    inverse_std: Tensor | None = None
    mean_current: Tensor | None = None
    eligibility: Tensor | None = None
    plan: Plan | None = None

    @property
    def convolution(self) -> Convolution:
        return Convolution(self.weight, self.bias, self.plan.geometry)


def of_layer(passed: LayerPass) -> Tensor:
    """The rate of a layer's result, in the graph."""
    return _LayerGradient.apply(*passed)


def of_neurons(rate: Tensor, current: Tensor, eligibility: Tensor) -> Tensor:
    """The rate of neurons, in the graph; all (B, ...): dL/dcurrent = dL/drate * eligibility."""
    return _EligibilityGradient.apply(rate, current, eligibility)


class _LayerGradient(torch.autograd.Function):
    """`of_layer`: the backward is the equations at the head of the file."""

    @staticmethod
    def forward(ctx, *fields):
        passed = LayerPass(*fields)
        plan = passed.plan
        if plan.count_steps is None:
            kept_rate = passed.x.to(plan.backward_dtype)
        elif passed.counts is None:
            kept_rate = spike_counts(passed.x, plan.count_steps)
        else:
            kept_rate = passed.counts
        kept = LayerPass(
            x=kept_rate,
            weight=passed.weight,
            gamma=passed.gamma,
            mean=passed.mean,
            inverse_std=passed.inverse_std,
            mean_current=passed.mean_current.to(plan.dtype),
            eligibility=passed.eligibility,
        )
        ctx.save_for_backward(*kept[:-1])
        ctx.plan = plan
        ctx.set_materialize_grads(False)  # zeros would have the backward run for nothing
        return passed.rate

    @staticmethod
    def backward(ctx, grad):  # (B, C, H', W')
        _refuse_second_derivative()
        if grad is None:  # nothing that the loss reads depends on the rate
            return tuple(LayerPass())
        kept, plan = LayerPass(*ctx.saved_tensors), ctx.plan
        needs = LayerPass(*ctx.needs_input_grad)
        inner = kernel.fire_backward(
            grad,
            kept.eligibility,  # (B, C, H', W')
            kept.mean_current,  # (B, C, H', W')
            Normalisation(kept.gamma, kept.mean, kept.inverse_std, plan.from_batch, plan.average),
            wants_source=needs.residual,
            execution=plan.execution,
            dtype=plan.backward_dtype,
            is_mean=plan.rate_is_mean,
        )
        g_x, g_weight, g_bias = kernel.convolve_backward(
            inner.current,  # (B, C, H', W')
            kept.x,  # (B, Ci, H, W)
            kept.weight,  # (C, Ci/groups, k, k)
            plan.geometry,
            (needs.x, needs.weight, needs.bias),
            plan.execution,
            dtype=plan.backward_dtype,
        )
        if g_weight is not None and plan.count_steps is not None:
            g_weight /= plan.count_steps  # it was taken at T times the rate
        gradients = LayerPass(
            x=g_x,  # (B, Ci, H, W), which autograd brings to the rate's dtype
            residual=inner.source,  # (B, C, H', W')
            weight=g_weight,  # (C, Ci/groups, k, k)
            bias=g_bias,  # (C,), as are the next two
            gamma=inner.gamma,
            beta=inner.beta,
        )
        return tuple(gradients)  # compiled by torch 2.11, a named tuple loses its gradients


class _EligibilityGradient(torch.autograd.Function):
    """`of_neurons`."""

    @staticmethod
    def forward(ctx, rate, current, eligibility):
        ctx.save_for_backward(eligibility)
        return rate

    @staticmethod
    def backward(ctx, grad):  # (B, ...)
        _refuse_second_derivative()
        (eligibility,) = ctx.saved_tensors
        return None, grad * eligibility, None


def _refuse_second_derivative() -> None:
    # A second derivative would be that of this backward, not of the eligibility that it reads.
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "rate gradients cannot be differentiated again: call backward without create_graph"
        )
