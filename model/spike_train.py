"""The activation of inference: a plain spike train over time.

Its layers run over T*B samples at once. Until the first neurons fire, a static image is constant in
time and its layers run once. Where execution is sparse, spikes are bytes, and their convolutions
skip the silent ones.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model import kernel
from model.activation import replaced
from model.batch_norm import normalise
from model.convolution import Convolution
from model.functional import Neuron

if TYPE_CHECKING:
    from model.abc_model import RateModel
    from model.layer import ConvNorm, LIFLayer, MaxPool


class SpikeTrain(NamedTuple):
    """An activation over time; its verbs are those of `activation.Activation`.

    maps: (T*B, ...) with index t*B + b, or (B, ...) if constant in time; bytes where is_sparse and
        they are counts of spikes.
    T: time steps for which neurons fire.
    is_constant: whether all T steps are alike.
    dtype: of what is made of bytes for whatever reads numbers.
    is_sparse: whether neurons write bytes, whose convolutions skip silent inputs.
    """

    maps: Tensor
    T: int
    is_constant: bool
    dtype: torch.dtype = torch.float32
    is_sparse: bool = False

    @classmethod
    def start(cls, x: Tensor, T: int, net: RateModel) -> Self:
        """Images (B, C, H, W), constant in time, or frames (T, B, C, H, W)."""
        is_constant = x.dim() == 4
        maps = x if is_constant else x.flatten(0, 1)
        # No gradient flows through bytes.
        is_sparse = not torch.is_grad_enabled() and kernel.skips_silence(x, net.execution)
        return cls(maps, T, is_constant, x.dtype, is_sparse)

    @property
    def rate(self) -> Tensor:
        return self._numbers.unflatten(0, (self._steps, -1)).mean(0)

    def over_time(self) -> Tensor:
        """(T, B, ...), or (1, B, ...) if constant in time."""
        return self.maps.unflatten(0, (self._steps, -1))

    def conv_norm(
        self, layer: ConvNorm, residual: Self | None = None, neuron: Neuron | None = None
    ) -> Self:
        if self.maps.is_floating_point():
            maps = layer.conv(self.maps)
        else:
            maps = kernel.convolve(self.maps, Convolution.of(layer.conv))
        maps = normalise(layer.norm, maps, self.T) if self.is_constant else layer.norm(maps)
        x = replaced(self, maps=maps)
        if residual is not None:
            x = x.add(residual)
        return x if neuron is None else x._fired(neuron)

    def shortcut(self, layer: ConvNorm) -> Self:
        return self.conv_norm(layer)

    def fire(self, layer: LIFLayer) -> Self:
        return replaced(self, maps=self._numbers)._fired(layer.neuron)

    def linear(self, layer: nn.Linear) -> Self:
        return self.map(lambda maps: F.linear(maps, layer.weight, layer.bias))

    def map(self, operation: Callable[[Tensor], Tensor]) -> Self:
        return replaced(self, maps=operation(self._numbers))

    def max_pool(self, layer: MaxPool) -> Self:
        return replaced(self, maps=layer.pool(self.maps))

    def add(self, other: Self) -> Self:
        """The sum of two activations, each of which may be constant in time."""
        total = (self.over_time() + other.over_time()).flatten(0, 1)
        return replaced(self, maps=total, is_constant=self.is_constant and other.is_constant)

    def spikes(self, current: Tensor, neuron: Neuron) -> Tensor:
        """Spikes (T, B, ...) of an input current (T or 1, B, ...), outside the graph."""
        return kernel.spikes(current, neuron, self.T, as_bytes=self.is_sparse)

    @property
    def _steps(self) -> int:
        return 1 if self.is_constant else self.T

    @property
    def _numbers(self) -> Tensor:
        """The maps in floating point."""
        return self.maps if self.maps.is_floating_point() else self.maps.to(self.dtype)

    def _fired(self, neuron: Neuron) -> Self:
        spikes = self.spikes(self.over_time(), neuron)
        return replaced(self, maps=spikes.flatten(0, 1), is_constant=False)
