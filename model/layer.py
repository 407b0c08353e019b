"""Layers that take one of several kinds of activation: the data decides how they compute.

A pair is rate-based training (`rate_gradient`). A plain tensor (T*B, ...), index t*B + b, is
backpropagation through time where it needs a gradient and inference where it does not; until the
first neurons fire, a static image is `Still` instead. A single time step (B, ...) with its memory
is online training (`online`). Each layer returns the kind that it takes, but neurons make a plain
tensor of `Still`. Below, shapes of the last two have B in place of T*B.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import kernel, online, rate_gradient, rate_pair
from model.batch_norm import average_of, normalise, statistics_in_training
from model.convolution import Conv2d, Convolution, subsample
from model.functional import Neuron
from model.online import OnlineStep, map_step
from model.rate_gradient import Normalisation
from model.rate_pair import RatePair, map_pair
from model.still import Still
from model.through_time import lif_through_time

Activation = Tensor | RatePair | OnlineStep | Still


class LIFLayer(nn.Module):
    """Leaky integrate-and-fire neurons over `steps` time steps T; equations: `functional`."""

    def __init__(self, steps: int, neuron: Neuron):
        super().__init__()
        self.steps, self.neuron = steps, neuron

    def forward(self, x: Activation) -> Activation:
        """Input current (T*B, ...) -> spikes (T*B, ...)."""
        if isinstance(x, RatePair):
            return rate_gradient.fire(x, self.neuron, self.steps)
        if isinstance(x, OnlineStep):
            return online.fire(x, self, self.neuron)
        return _fire_over_time(x, self.neuron, self.steps)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, {self.neuron}"


def _fire_over_time(x: Tensor | Still, neuron: Neuron, steps: int) -> Tensor:
    """Spikes (T*B, ...) of LIF neurons, in the graph if their input current (T*B, ...) is."""
    current = x.over_time() if isinstance(x, Still) else x.unflatten(0, (steps, -1))
    if current.requires_grad:
        every_step = current.expand(steps, *current.shape[1:])
        return lif_through_time(every_step, neuron).flatten(0, 1)
    return kernel.lif_spikes(current, steps, neuron).flatten(0, 1)


class ConvNorm(nn.Module):
    """Convolution and batch norm; its statistics run over time, batch and space."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        steps: int,
        bias: bool = False,
    ):
        super().__init__()
        self.steps = steps
        self.conv = Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=bias
        )
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Activation, residual: Activation | None = None) -> Activation:
        """norm(conv(x)) + residual; x (T*B, Ci, H, W), result and residual (T*B, C, H', W')."""
        return self._forward(x, residual, None)

    def _forward(
        self,
        x: Activation,
        residual: Activation | None,
        neuron: Neuron | None,
        postpone: bool = False,
    ) -> Activation:
        if isinstance(x, RatePair):
            x, convolution = _unstrided(x, self.conv)
            return rate_gradient.conv_norm(
                x,
                residual,
                convolution,
                self._normalisation,
                neuron,
                self.steps,
                postpone=postpone,
            )
        if isinstance(x, OnlineStep):
            return self._forward_online(x, residual, neuron)
        if isinstance(x, Still):
            assert residual is None
            x = x._replace(maps=normalise(self.norm, self.conv(x.maps), x.steps))
        else:
            x = self.norm(self.conv(x))
        if residual is not None:
            x = x + residual
        return x if neuron is None else _fire_over_time(x, neuron, self.steps)

    def _forward_online(
        self, x: OnlineStep, residual: OnlineStep | None, neuron: Neuron | None
    ) -> OnlineStep:
        x = map_step(self.norm, online.convolve(*_unstrided(x, self.conv)))
        if residual is not None:
            x = online.add(x, residual)
        return x if neuron is None else online.fire(x, self, neuron)

    def _normalisation(self, current: Tensor, repeats: int) -> Normalisation:
        """Statistics of current (N, C, H, W) in training, the running ones otherwise.

        repeats: the time steps that each map of current stands for.
        """
        norm = self.norm
        if norm.training:
            mean, variance = statistics_in_training(norm, current, repeats)
        else:
            mean, variance = norm.running_mean, norm.running_var
        inverse_std = torch.rsqrt(variance + norm.eps)
        return Normalisation(
            norm.weight, norm.bias, mean, inverse_std, norm.training, average_of(norm)
        )


def _unstrided(x: Activation, conv: nn.Conv2d) -> tuple[Activation, Convolution]:
    """What to convolve with what for the result of conv; see `Convolution.unstrided`."""
    steps, convolution = Convolution.of(conv).unstrided()
    if steps != (1, 1):
        x = _map(partial(subsample, steps=steps), x, keeps_counts=True)
    return x, convolution


def _map(
    operation: Callable[[Tensor], Tensor], x: Activation, *, keeps_counts: bool = False
) -> Activation:
    """Apply an operation to every part of an activation; keeps_counts as in `map_pair`."""
    if isinstance(x, RatePair):
        return map_pair(operation, x, keeps_counts=keeps_counts)
    if isinstance(x, Still):
        return x._replace(maps=operation(x.maps))
    return map_step(operation, x) if isinstance(x, OnlineStep) else operation(x)


def add(x: Activation, y: Activation) -> Activation:
    """The sum of two activations of one kind and shape (commutes with the time mean)."""
    if isinstance(x, RatePair):
        return rate_pair.add(x, y)
    if isinstance(x, Still):
        return x._replace(maps=x.maps + y.maps)
    return online.add(x, y) if isinstance(x, OnlineStep) else x + y


class Shortcut(ConvNorm):
    """Convolution and batch norm on the way to an addition, which applies the affine map."""

    def forward(self, x: Activation) -> Activation:
        """norm(conv(x)), of a pair with the affine map pending; only a residual may be one."""
        return self._forward(x, None, None, postpone=True)


class ConvNormLIF(ConvNorm):
    """Convolution, batch norm, residual addition, LIF neurons: the unit of a spiking ResNet."""

    def __init__(self, *args, neuron: Neuron, **kwargs):
        super().__init__(*args, **kwargs)
        self.neuron = neuron

    def forward(self, x: Activation, residual: Activation | None = None) -> Activation:
        """Spikes of LIF(norm(conv(x)) + residual); shapes as in `ConvNorm.forward`."""
        return self._forward(x, residual, self.neuron)

    def extra_repr(self) -> str:
        return f"steps={self.steps}, {self.neuron}"


class Linear(nn.Linear):
    """A linear layer (commutes with the time mean)."""

    def forward(self, x: Activation) -> Activation:
        """(T*B, C) -> (T*B, K)."""
        if isinstance(x, OnlineStep):
            return online.linear(x, self.weight, self.bias)
        return _map(super().forward, x)


def average_pool(x: Activation, side: int = 1) -> Activation:
    """Average over side x side parts of the map, whatever its size, then flatten.

    (T*B, C, H, W) -> (T*B, C * side * side). Commutes with the time mean.
    """

    def pool(maps: Tensor) -> Tensor:
        if side == 1:
            return maps.mean((-2, -1))  # unlike pooling, keeps no map for its backward
        return F.adaptive_avg_pool2d(maps, side).flatten(1)

    return _map(pool, x)


class AveragePool(nn.AvgPool2d):
    """Average over window x window pixels (commutes with the time mean)."""

    def forward(self, x: Activation) -> Activation:
        """(T*B, C, H, W) -> (T*B, C, H//window, W//window)."""
        return _map(super().forward, x)


class MaxPool(nn.MaxPool2d):
    """Max pooling, which does not commute with the time mean.

    Where a pair varies over time, its rate is the maximum of the mean, as in the published rate
    pass; it then differs from the mean of the train until the next neurons fire. Online, the trace
    is that of the maxima.
    """

    def forward(self, x: Activation) -> Activation:
        """(T*B, C, H, W) -> (T*B, C, H', W')."""
        pool = super().forward

        def pool_any(maps: Tensor) -> Tensor:
            if maps.is_floating_point():
                return pool(maps)
            # PyTorch 2.11 pools no bytes in channels_last layout on a CPU.
            return pool(maps.float()).to(maps.dtype)

        if isinstance(x, OnlineStep):
            return online.pool_maximum(x, self, pool_any)
        pooled = _map(pool_any, x, keeps_counts=True)
        if isinstance(x, RatePair):
            return pooled._replace(rate_is_mean=x.rate_is_mean and x.steps == 1)
        return pooled
