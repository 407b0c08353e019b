"""What an activation can do: the verbs that layers call. The activation owns the method.

A batch passes a network as one of a few small classes, each of which is a way to compute: the pair
of rate-based training (`rate_pair`), a spike train over time (`spike_train`, and under autograd
`baseline.through_time`), one time step with its memory (`baseline.online`). Layers hold parameters
and call a verb; they know neither T nor the method.

Shapes: T time steps, B batch, C channels, H x W pixels, K classes. Verbs are written for one time
step: (B, C, H, W) stands for T of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor, nn

from model.functional import Neuron

if TYPE_CHECKING:
    from model.abc_model import RateModel
    from model.layer import ConvNorm, LIFLayer, MaxPool

Record = TypeVar("Record", bound=NamedTuple)


class Activation(Protocol):
    """An activation of a network, at every time step or at one.

    Verbs hold for any way to train; a class says in its own docstrings what it does besides.
    """

    @property
    def rate(self) -> Tensor:
        """The mean over time (B, ...), in the graph: what branches read."""

    def over_time(self) -> Tensor:
        """(T, B, ...), or (1, B, ...) where it is constant in time."""

    def conv_norm(
        self, layer: ConvNorm, residual: Self | None = None, neuron: Neuron | None = None
    ) -> Self:
        """LIF(norm(conv(x)) + residual), or without neurons that sum: (B, C, H', W')."""

    def shortcut(self, layer: ConvNorm) -> Self:
        """norm(conv(x)), good for nothing but the residual of a `conv_norm`: (B, C, H', W')."""

    def fire(self, layer: LIFLayer) -> Self:
        """The spikes of LIF neurons whose input current this is."""

    def linear(self, layer: nn.Linear) -> Self:
        """(B, C) -> (B, K)."""

    def map(self, operation: Callable[[Tensor], Tensor]) -> Self:
        """A linear operation without weights, on maps (N, ...); it commutes with the time mean."""

    def max_pool(self, layer: MaxPool) -> Self:
        """The maxima of windows, which do not commute with the time mean."""

    def add(self, other: Self) -> Self:
        """The sum of two activations of one shape."""


class BatchActivation(Activation, Protocol):
    """An activation that carries a whole batch through a network."""

    @classmethod
    def start(cls, x: Tensor, T: int, net: RateModel) -> Self:
        """That of images (B, C, H, W), the same at all T steps, or of frames (T, B, C, H, W)."""


def replaced(record: Record, **fields: object) -> Record:
    """record._replace(**fields), of its own class.

    What _replace has made cannot leave a function that torch.compile (2.11) compiles, as the result
    of a compiled layer does.
    """
    return type(record)(**(record._asdict() | fields))
