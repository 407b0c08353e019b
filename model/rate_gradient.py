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
from torch.autograd.function import once_differentiable

from model import functional, kernel
from model.functional import Neuron


class RatePair(NamedTuple):
    """An activation: what the network computes, and what its gradient flows through.

    train: (T*B, ...) with index t*B + b, or (B, ...) if constant in time; outside the graph.
    rate:  (B, ...), the mean of train over time; in the graph.
    """

    train: Tensor
    rate: Tensor

    @property
    def steps(self) -> int:
        """Time steps that train holds: T, or 1 if it is constant in time."""
        return self.train.shape[0] // self.rate.shape[0]

    def over_time(self) -> Tensor:
        """train as (T, B, ...), or (1, B, ...) if it is constant in time."""
        return self.train.unflatten(0, (self.steps, self.rate.shape[0]))


class Convolution(NamedTuple):
    """Parameters of a 2-d convolution: weight (C, Ci/groups, k, k), bias (C,) or None, geometry."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


class Normalisation(NamedTuple):
    """Batch norm at work, all (C,): gamma, beta, mean and inverse_std = 1/sqrt(variance + eps).

    from_batch: whether mean and inverse_std depend on the batch (else: running statistics).
    """

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    inverse_std: Tensor
    from_batch: bool


def conv_norm(
    x: RatePair,
    residual: RatePair | None,
    convolution: Convolution,
    normalise: Callable[[Tensor, int], Normalisation],
    neuron: Neuron | None,
    steps: int,
) -> RatePair:
    """Convolution, batch norm, residual addition and (with `neuron`) LIF neurons.

    Shapes: x (T*B, Ci, H, W) with rate (B, Ci, H, W); result and residual (T*B, C, H', W') alike.
    normalise: takes the convolution's output (T*B or B, C, H', W') and how many time steps each of
    its maps stands for (1, or T where x is constant in time), returns its normalisation.
    steps: T, which the result has even if x is constant in time.
    """
    with torch.no_grad():
        batch = x.rate.shape[0]
        current = torch.nn.functional.conv2d(x.train, *convolution)
        norm = normalise(current, steps // x.steps)
        scale = norm.gamma * norm.inverse_std
        shift = norm.beta - norm.mean * scale
        current = current.unflatten(0, (-1, batch))
        extra = None if residual is None else residual.over_time()
        if neuron is None:
            out, mean_current = kernel.norm_rate(current, scale, shift, extra, overwrite=True)
            eligibility = None
            rate = functional.normalise(mean_current[None], scale, shift, None)[0]
            rate = rate if residual is None else rate + residual.rate
        else:
            out, rate, eligibility, mean_current = kernel.norm_lif_rate(
                current, scale, shift, extra, steps, neuron, overwrite=True
            )
    rate = _ConvNormGradient.apply(
        rate, x.rate, None if residual is None else residual.rate, *convolution[:2],
        norm.gamma, norm.beta, mean_current, eligibility, norm, convolution, current.dtype,
    )  # fmt: skip
    return RatePair(out.flatten(0, 1), rate)


class _ConvNormGradient(torch.autograd.Function):
    """Gives a firing rate, computed outside the graph, its gradient.

    g       = grad_rate * eligibility                             (B, C, H', W'); without neurons:
                                                                  g = grad_rate
    g_res   = g                                                   (B, C, H', W')
    g_y, g_gamma, g_beta = batch norm's backward of g at the mean current y (B, C, H', W')
    g_x, g_weight, g_bias = the convolution's backward of g_y at the input rate (B, Ci, H, W)

    Kept for it: input rate, mean current, eligibility; none grows with T.
    """

    @staticmethod
    def forward(
        ctx, rate_out, rate_in, residual_rate, weight, bias, gamma, beta, mean_current,
        eligibility, norm, convolution, compute_dtype,
    ):  # fmt: skip
        ctx.save_for_backward(
            rate_in, weight, gamma, mean_current, eligibility, norm.mean, norm.inverse_std
        )
        ctx.from_batch = norm.from_batch
        ctx.geometry = convolution[2:]
        ctx.compute_dtype = compute_dtype
        ctx.set_materialize_grads(False)
        return rate_out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 12
        rate_in, weight, gamma, mean_current, eligibility, mean, inverse_std = ctx.saved_tensors
        _, needs_input, needs_residual, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        g = grad if eligibility is None else grad * eligibility
        g_y, g_gamma, g_beta = norm_backward(
            g, mean_current, gamma, mean, inverse_std, ctx.from_batch
        )
        dtype = ctx.compute_dtype
        g_x, g_weight, g_bias = convolution_backward(
            g_y.to(dtype), rate_in.to(dtype), weight.to(dtype), ctx.geometry,
            (needs_input, needs_weight, needs_bias),
        )  # fmt: skip
        if g_x is not None:
            g_x = g_x.to(rate_in.dtype)
        if g_weight is not None:
            g_weight = g_weight.to(weight.dtype)
        if g_bias is not None:
            g_bias = g_bias.to(weight.dtype)
        g_residual = g if needs_residual else None
        return None, g_x, g_residual, g_weight, g_bias, g_gamma, g_beta, *(None,) * 5


def norm_backward(
    grad: Tensor, y: Tensor, gamma: Tensor, mean: Tensor, inverse_std: Tensor, from_batch: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`functional.rate_batch_norm_backward` by ATen, where mean is the mean of y.

    If not `from_batch`, mean and inverse_std are constants: only the affine map has a gradient.
    """
    variance = inverse_std.pow(-2)  # read only if not from_batch; eps is then part of it
    return torch.ops.aten.native_batch_norm_backward(
        grad, y, gamma, mean, variance, mean, inverse_std, from_batch, 0.0, [True, True, True]
    )


def convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    geometry: tuple[tuple[int, int], tuple[int, int], tuple[int, int], int],
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a convolution with respect to (x, weight, bias), where needed."""
    stride, padding, dilation, groups = geometry
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [weight.shape[0]], stride, padding, dilation, False, [0, 0], groups, needs
    )


def fire(x: RatePair, neuron: Neuron, steps: int) -> RatePair:
    """LIF neurons on an input current pair; dr/dx is the eligibility (`functional.lif_rate`)."""
    with torch.no_grad():
        out, rate, eligibility, _ = kernel.norm_lif_rate(
            x.over_time(), None, None, None, steps, neuron
        )
    return RatePair(out.flatten(0, 1), _EligibilityGradient.apply(rate, x.rate, eligibility))


class _EligibilityGradient(torch.autograd.Function):
    """g_x = grad_rate * eligibility, all (B, ...)."""

    @staticmethod
    def forward(ctx, rate_out, rate_in, eligibility):
        ctx.save_for_backward(eligibility)
        return rate_out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (eligibility,) = ctx.saved_tensors
        return None, grad * eligibility, None


def map_pair(operation: Callable[[Tensor], Tensor], x: RatePair) -> RatePair:
    """Apply an operation to both parts of a pair; whether it commutes is the caller's concern."""
    with torch.no_grad():
        train = operation(x.train)
    return RatePair(train, operation(x.rate))
