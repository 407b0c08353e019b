"""What the neurons of a trained network do: how often they fire, and how their potentials move.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from model.inference.folded import FoldedNetwork, Neurons, added, observed


class LayerActivity(NamedTuple):
    """Firing of one layer over some images.

    rates: spikes per time step of every neuron, (C, H, W) or (C,), the mean over the images.
    silent, saturated: share of neurons that never fired, and that fired at every step.
    """

    name: str
    rates: Tensor
    silent: float
    saturated: float


class Trace(NamedTuple):
    """One neuron on one image, all (T,): potential before and after the reset, spikes 0 or 1."""

    layer: str
    place: tuple[int, ...]  # (channel, row, column) or (channel,)
    before: Tensor
    after: Tensor
    spikes: Tensor

    @property
    def label(self) -> str:
        """As --neuron takes it."""
        return f"{self.layer}:{','.join(map(str, self.place))}"


@torch.no_grad()
def measure_activity(net: FoldedNetwork, batches: Iterable[Tensor]) -> list[LayerActivity]:
    """Per-neuron firing over all images of the batches; x (B, C, H, W) or (T, B, C, H, W)."""
    counts: dict[str, Tensor] = {}
    images = 0

    def see(neurons: Neurons, current: Tensor, spikes: Tensor) -> None:
        fired = spikes.sum((0, 1), dtype=torch.float64)
        counts[neurons.label] = fired + counts.get(neurons.label, 0)

    for x in batches:
        net(x, observed(see))
        images += x.shape[-4]
    chances = net.T * images
    return [
        LayerActivity(
            name,
            (fired / chances).cpu(),
            (fired == 0).double().mean().item(),
            (fired == chances).double().mean().item(),
        )
        for name, fired in counts.items()
    ]


@torch.no_grad()
def trace_potentials(
    net: FoldedNetwork, x: Tensor, chosen: Iterable[tuple[str, tuple[int, ...]]] | None = None
) -> list[Trace]:
    """Membrane potentials of neurons on one image, x (1, C, H, W) or (T, 1, C, H, W).

    chosen: (layer, place) of each neuron; None is two neurons of the first, the middle and the
    last spiking layer: the one whose spikes are nearest to T/2, and the busiest other.
    Raises: ValueError for a layer or a place that is not there.
    """
    recorded: dict[str, tuple[Tensor, Tensor, Tensor]] = {}

    def fire(neurons: Neurons, current: Tensor, residual: Tensor | None) -> Tensor:
        u, steps = None, []
        for x_t in added(current, residual).unbind(0):
            v, spikes, u = neurons.advance(u, x_t)
            steps.append((v[0], u[0], spikes[0]))
        before, after, spikes = (torch.stack(values) for values in zip(*steps, strict=True))
        recorded[neurons.label] = before, after, spikes
        return spikes[:, None]

    net(x, fire)
    if chosen is None:
        names = list(recorded)
        layers = dict.fromkeys((names[0], names[len(names) // 2], names[-1]))
        chosen = [(name, place) for name in layers for place in typical_places(recorded[name][2])]
    return [_trace(recorded, layer, place) for layer, place in chosen]


def typical_places(spikes: Tensor) -> list[tuple[int, ...]]:
    """Places in spikes (T, ...): the first neuron with about T/2 spikes, and the busiest other."""
    counts = spikes.sum(0)
    half = int((counts - len(spikes) / 2).abs().argmin())
    others = counts.flatten().index_fill(0, torch.tensor(half, device=counts.device), -1)
    flat = dict.fromkeys((half, int(others.argmax())))
    return [tuple(int(i) for i in torch.unravel_index(torch.tensor(k), counts.shape)) for k in flat]


def _trace(
    recorded: dict[str, tuple[Tensor, Tensor, Tensor]], layer: str, place: tuple[int, ...]
) -> Trace:
    if layer not in recorded:
        raise ValueError(f"there is no spiking layer {layer!r}: choose from {', '.join(recorded)}")
    shape = tuple(recorded[layer][0].shape[1:])
    if len(place) != len(shape) or any(not 0 <= i < n for i, n in zip(place, shape, strict=False)):
        raise ValueError(f"neuron {place} of {layer}: expected a place within {shape}")
    return Trace(layer, place, *(values[(slice(None), *place)].cpu() for values in recorded[layer]))
