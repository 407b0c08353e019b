"""A folded network on a CPU that does nothing for what does not fire.

Spikes are bytes between its layers, and wherever few enough fire, a convolution adds up their
weights alone (`kernel.sparse`). Where that cannot be done (on another device, in other dtypes than
fp32 and fp64, without a compiler), its layers compute as those that they replace.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model import kernel
from model.convolution import Convolution
from model.inference.folded import Fire, FoldedNetwork, Neurons


def skip_silence(net: FoldedNetwork) -> FoldedNetwork:
    """Have a network skip silent inputs from now on; its logits stay the same up to rounding.

    Weights keep their names, and are kept once more as skipping reads them. Returns: net.
    """
    for name, layer in list(net.named_modules()):
        if type(layer) is nn.Conv2d:
            net.set_submodule(name, SkippingConv2d(layer))
        elif type(layer) is Neurons:
            net.set_submodule(name, ByteNeurons(layer.label, layer.neuron))
    return net.train(net.training)


class SkippingConv2d(nn.Conv2d):
    """A convolution with another's weights that skips silent inputs: of bytes, not of numbers."""

    def __init__(self, conv: nn.Conv2d):
        sizes = conv.in_channels, conv.out_channels, conv.kernel_size
        super().__init__(*sizes, *Convolution.of(conv).geometry, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        self._rows: Tensor | None = None
        self._arranged_of: tuple[Any, ...] | None = None  # of which weight those are

    def forward(self, x: Tensor) -> Tensor:
        """(N, Ci, H, W) -> (N, C, H', W')."""
        if x.is_floating_point():
            return super().forward(x)
        return kernel.convolve(x, Convolution.of(self), arranged=self._arranged(x))

    def _arranged(self, x: Tensor) -> Tensor | None:
        """The weight arranged, anew where it has changed; None where nothing is skipped."""
        weight = self.weight
        if torch.compiler.is_compiling() or not kernel.can_skip(x, Convolution.of(self)):
            return None
        version = None if weight.is_inference() else weight._version
        state = weight.data_ptr(), weight.dtype, version
        if state != self._arranged_of:
            self._rows, self._arranged_of = kernel.arrange(weight), state
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        """What is arranged is for this processor, and is made again elsewhere."""
        return {**self.__dict__, "_rows": None, "_arranged_of": None}


class ByteNeurons(Neurons):
    """Neurons that write their spikes as bytes, and add what is added as they go."""

    def forward(self, current: Tensor, fire: Fire, residual: Tensor | None = None) -> Tensor:
        return fire(self, current, residual)

    def over_time(self, current: Tensor, residual: Tensor | None = None) -> Tensor:
        if not kernel.can_fire_bytes(current, self.neuron):
            return super().over_time(current, residual)
        return kernel.fire_bytes(current, self.neuron, len(current), residual=residual)[0]

    def step(
        self, u: Tensor | None, current: Tensor, residual: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if not kernel.can_fire_bytes(current, self.neuron):
            return super().step(u, current, residual)
        added = None if residual is None else residual[None]
        train, u = kernel.fire_bytes(current[None], self.neuron, 1, residual=added, potential=u)
        return train[0], u
