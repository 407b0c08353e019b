"""Rate-based backpropagation: spikes run outside the graph, gradients flow once, through rates.

An activation of a network in rate-based training is a pair: the spike train and its time mean.
Convolution, linear layers, batch norm's affine map, addition and average pooling commute with the
time mean, so one forward pass over the spike train yields both, and the backward of a layer is its
own backward evaluated at the mean. Nothing that is kept for the backward pass grows with T.

Source: arXiv 2410.11488, section 4, where a second forward pass over the rates finds the same
values. The equations are in `functional`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from model import functional, kernel
from model.convolution import Convolution, convolution_backward, convolve
from model.functional import Average, Neuron
from model.kernel import Execution
from model.rate_pair import MAX_COUNT, RatePair


class Normalisation(NamedTuple):
    """Batch norm at work, all (C,): gamma, beta, mean and inverse_std = 1/sqrt(variance + eps).

    from_batch: whether mean and inverse_std depend on the batch (else: running statistics).
    average: for a batch that several processes share, the mean of a tensor over them.
    """

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    inverse_std: Tensor
    from_batch: bool
    average: Average | None = None


def conv_norm(
    x: RatePair,
    residual: RatePair | None,
    convolution: Convolution,
    normalise: Callable[[Tensor, int], Normalisation],
    neuron: Neuron | None,
    steps: int,
    *,
    postpone: bool = False,
) -> RatePair:
    """Convolution, batch norm, residual addition and (with `neuron`) LIF neurons.

    Shapes: x (T*B, Ci, H, W) with rate (B, Ci, H, W); result and residual (T*B, C, H', W') alike.
    normalise: takes the convolution's output (T*B or B, C, H', W') and how many time steps each of
    its maps stands for (1, or T where x is constant in time), returns its normalisation.
    steps: T, which the result has even if x is constant in time.
    postpone: leave batch norm's affine map pending (without residual and neuron only).
    """
    assert x.pending is None and not (postpone and (residual or neuron))
    backend, backward_dtype, _ = x.execution
    with torch.no_grad():
        current = convolve(x.train, convolution, are_spikes=x.max_count == 1)
        norm = normalise(current, steps // x.steps)
        scale = norm.gamma * norm.inverse_std
        shift = norm.beta - norm.mean * scale
        current = current.unflatten(0, (x.steps, -1))
        if postpone:
            out, rate, eligibility, mean_current = current, None, None, None
        else:
            out, rate, eligibility, mean_current = _normalise_and_fire(
                current, scale, shift, residual, neuron, steps, x.execution
            )
        # By linearity: without a pass over all time steps, or where the train has another mean.
        if postpone or not x.rate_is_mean:
            mean_current = torch.nn.functional.conv2d(x.rate, *convolution)
        if neuron is None:
            rate = functional.affine(mean_current[None], scale, shift)[0]
            rate = rate if residual is None else rate + residual.rate
    # Only the reference has batch norm's general backward, where mean is not the mean of y.
    backward_backend = backend if x.rate_is_mean else "reference"
    plan = _Plan(
        convolution[2:], norm.from_batch, backward_backend, _count_steps(x, steps),
        current.dtype, backward_dtype or current.dtype, norm.average,
    )  # fmt: skip
    rate = _ConvNormGradient.apply(
        rate, x.rate, None if residual is None else residual.rate, *convolution[:2],
        *norm[:4], mean_current, eligibility, plan,
    )  # fmt: skip
    pending = (scale, shift) if postpone else None
    spiking = neuron is not None
    rate_is_mean = x.rate_is_mean and (residual is None or residual.rate_is_mean)
    return RatePair(
        out.flatten(0, 1), rate, int(spiking), x.execution, pending, spiking or rate_is_mean
    )


def _normalise_and_fire(
    current: Tensor,
    scale: Tensor,
    shift: Tensor,
    residual: RatePair | None,
    neuron: Neuron | None,
    steps: int,
    execution: Execution,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """`functional.norm_lif_rate`'s results; without neurons `norm_rate`'s, the others None.

    current (T or 1, B, C, H, W), whose memory is used again.
    """
    extra = None if residual is None else residual.over_time()
    affines = None if residual is None else residual.pending
    residual_scale, residual_shift = affines or (None, None)
    options = {
        "overwrite": True,
        "residual_scale": residual_scale,
        "residual_shift": residual_shift,
        "backend": execution.backend,
    }
    if neuron is None:
        out, mean_current = kernel.norm_rate(current, scale, shift, extra, **options)
        return out, None, None, mean_current
    return kernel.norm_lif_rate(
        current, scale, shift, extra, steps, neuron, compact=execution.sparse, **options
    )


def _count_steps(x: RatePair, steps: int) -> int | None:
    """`steps` if the rate of x is a count over them that one byte holds."""
    return steps if 0 < x.max_count * steps <= MAX_COUNT else None


def _refuse_second_derivative() -> None:
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise RuntimeError(
            "rate gradients cannot be differentiated again: call backward without create_graph"
        )


class _Plan(NamedTuple):
    """What the backward of a layer needs to know beside tensors.

    geometry: stride, padding, dilation, groups of the convolution.
    count_steps: T if the input's rate is kept as a count over T, exact in one byte, else None.
    kept_dtype: dtype in which mean current and eligibility are kept.
    backward_dtype: dtype of the convolution's backward.
    average: that of `Normalisation`.
    """

    geometry: tuple
    from_batch: bool
    backend: str
    count_steps: int | None
    kept_dtype: torch.dtype
    backward_dtype: torch.dtype
    average: Average | None


class _ConvNormGradient(torch.autograd.Function):
    """Gives a rate, computed outside the graph, its gradient.

    g       = grad_rate * eligibility                             (B, C, H', W'); without neurons:
                                                                  g = grad_rate
    g_res   = g                                                   (B, C, H', W')
    g_y, g_gamma, g_beta = batch norm's backward of g at the mean current y (B, C, H', W')
    g_x, g_weight, g_bias = the convolution's backward of g_y at the input rate (B, Ci, H, W)

    Kept for it: input rate (as a count of spikes in one byte where it is one), mean current and
    eligibility in the dtype of the forward convolution; none grows with T.
    """

    @staticmethod
    def forward(
        ctx, rate_out, rate_in, residual_rate, weight, bias, gamma, beta, mean, inverse_std,
        mean_current, eligibility, plan,
    ):  # fmt: skip
        if plan.count_steps is not None:
            half = rate_in.new_full((), 0.5)  # what is cut off then rounds
            kept_rate = torch.add(half, rate_in, alpha=plan.count_steps).to(torch.uint8)
        else:
            kept_rate = rate_in.to(plan.backward_dtype)
        ctx.save_for_backward(
            kept_rate, weight, gamma, mean, inverse_std, mean_current.to(plan.kept_dtype),
            None if eligibility is None else eligibility.to(plan.kept_dtype),
        )  # fmt: skip
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        return rate_out

    @staticmethod
    def backward(ctx, grad):
        _refuse_second_derivative()
        if grad is None:
            return (None,) * 12
        kept_rate, weight, gamma, mean, inverse_std, y, eligibility = ctx.saved_tensors
        plan = ctx.plan
        _, needs_input, needs_residual, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        arguments = (
            grad, eligibility, y, gamma, mean, inverse_std, plan.from_batch, needs_residual
        )  # fmt: skip
        if plan.average is None:
            gradients = kernel.norm_lif_backward(*arguments, backend=plan.backend)
        else:
            gradients = functional.norm_lif_backward(*arguments, plan.average)
        g, g_y, g_gamma, g_beta = gradients
        dtype = plan.backward_dtype
        g_x, g_weight, g_bias = convolution_backward(
            g_y.to(dtype), kept_rate.to(dtype), weight.to(dtype), plan.geometry,
            (needs_input, needs_weight, needs_bias),
        )  # fmt: skip
        if g_x is not None:
            g_x = g_x.to(grad.dtype)
        if g_weight is not None:
            g_weight = g_weight.to(weight.dtype)
            if plan.count_steps is not None:  # the rate is the count over T
                g_weight /= plan.count_steps
        if g_bias is not None:
            g_bias = g_bias.to(weight.dtype)
        return None, g_x, g, g_weight, g_bias, g_gamma, g_beta, *(None,) * 5


def fire(x: RatePair, neuron: Neuron, steps: int) -> RatePair:
    """LIF neurons on an input current pair; dr/dx is the eligibility (`functional.lif_rate`)."""
    assert x.pending is None
    dtype = x.train.dtype if x.train.is_floating_point() else x.rate.dtype
    with torch.no_grad():
        out, rate, eligibility, _ = kernel.norm_lif_rate(
            x.over_time().to(dtype), None, None, None, steps, neuron,
            compact=x.execution.sparse, backend=x.execution.backend,
        )  # fmt: skip
    rate = _EligibilityGradient.apply(rate, x.rate, eligibility.to(dtype))
    return RatePair(out.flatten(0, 1), rate, 1, x.execution)


class _EligibilityGradient(torch.autograd.Function):
    """g_x = grad_rate * eligibility, all (B, ...)."""

    @staticmethod
    def forward(ctx, rate_out, rate_in, eligibility):
        ctx.save_for_backward(eligibility)
        return rate_out

    @staticmethod
    def backward(ctx, grad):
        _refuse_second_derivative()
        (eligibility,) = ctx.saved_tensors
        return None, grad * eligibility, None
