"""The activation of inference: a plain spike train over time.

Its layers run over T*B samples at once. Until the first neurons fire, a static image is constant in
time and its layers run once.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

import torch.nn.functional as F
from torch import Tensor, nn

from model import kernel
from model.activation import replaced
from model.batch_norm import normalise
from model.functional import Neuron

if TYPE_CHECKING:
    from model.abc_model import RateModel
    from model.layer import ConvNorm, LIFLayer, MaxPool


class SpikeTrain(NamedTuple):
    """An activation over time; its verbs are those of `activation.Activation`.

    maps: (T*B, ...) with index t*B + b, or (B, ...) if constant in time.
    T: time steps for which neurons fire.
    is_constant: whether all T steps are alike.
    """

    maps: Tensor
    T: int
    is_constant: bool

    @classmethod
    def start(cls, x: Tensor, T: int, net: RateModel) -> Self:
        """Images (B, C, H, W), constant in time, or frames (T, B, C, H, W)."""
        is_constant = x.dim() == 4
        return cls(x if is_constant else x.flatten(0, 1), T, is_constant)

    @property
    def rate(self) -> Tensor:
        return self.over_time().mean(0)

    def over_time(self) -> Tensor:
        """(T, B, ...), or (1, B, ...) if constant in time."""
        return self.maps.unflatten(0, (1 if self.is_constant else self.T, -1))

    def conv_norm(
        self, layer: ConvNorm, residual: Self | None = None, neuron: Neuron | None = None
    ) -> Self:
        maps = layer.conv(self.maps)
        maps = normalise(layer.norm, maps, self.T) if self.is_constant else layer.norm(maps)
        x = replaced(self, maps=maps)
        if residual is not None:
            x = x.add(residual)
        return x if neuron is None else x._fired(neuron)

    def shortcut(self, layer: ConvNorm) -> Self:
        return self.conv_norm(layer)

    def fire(self, layer: LIFLayer) -> Self:
        return self._fired(layer.neuron)

    def linear(self, layer: nn.Linear) -> Self:
        return self.map(lambda maps: F.linear(maps, layer.weight, layer.bias))

    def map(self, operation: Callable[[Tensor], Tensor]) -> Self:
        return replaced(self, maps=operation(self.maps))

    def max_pool(self, layer: MaxPool) -> Self:
        return self.map(layer.pool)

    def add(self, other: Self) -> Self:
        """The sum of two activations, each of which may be constant in time."""
        total = (self.over_time() + other.over_time()).flatten(0, 1)
        return replaced(self, maps=total, is_constant=self.is_constant and other.is_constant)

    def spikes(self, current: Tensor, neuron: Neuron) -> Tensor:
        """Spikes (T, B, ...) of an input current (T or 1, B, ...), outside the graph."""
        return kernel.spikes(current, neuron, self.T)

    def _fired(self, neuron: Neuron) -> Self:
        spikes = self.spikes(self.over_time(), neuron)
        return replaced(self, maps=spikes.flatten(0, 1), is_constant=False)
