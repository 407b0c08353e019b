"""Operations and energy of a network per layer, through spikingjelly's op counters.

    MAC     multiply-accumulate: a weight times a real-valued input
    SynOp   synaptic operation: a weight added because a spike arrived, one for each
    AC      accumulate: every SynOp, and the additions in neurons, residual sums and pooling
    energy  E = 4.6 pJ * MACs + 0.9 pJ * ACs: 32-bit floating point in 45 nm
            (Horowitz, "Computing's energy problem", ISSCC 2014)

The counters look at the values: an input of zeros and ones is a spike train, anything else is
real-valued. So the first layer on images counts MACs, once per image where the image is static
(its result is held over the T steps), and so does a linear layer behind average pooling. MACs
include those on the zeros of a padding, SynOps do not.

Not counted: the multiplication of membrane potentials by the decay, comparisons with the
threshold, additions of biases; memory traffic, control and leakage, which dominate on many chips.

The network of the same shape without spikes (ANN) computes the same layers once, on real values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from model.inference.folded import (
    Fire,
    FoldedNetwork,
    Neurons,
    added,
    as_ever,
    observed,
)

E_MAC, E_AC = 4.6, 0.9  # pJ per operation


class LayerOperations(NamedTuple):
    """Per image. `acs` of a layer with weights are its SynOps; `ann_macs`: those of the ANN."""

    name: str
    macs: float
    acs: float
    ann_macs: float

    @property
    def energy(self) -> float:
        """pJ per image."""
        return E_MAC * self.macs + E_AC * self.acs

    @property
    def ann_energy(self) -> float:
        """pJ per image of the same layer of the ANN."""
        return E_MAC * self.ann_macs


class Operations(NamedTuple):
    """Per image: the layers with weights, and every other accumulation of both networks.

    firing_rates: spikes per neuron and time step of every spiking layer.
    simple_energy: compute energy that spikingjelly's `estimate_simple_energy` reports, pJ.
    """

    layers: list[LayerOperations]
    other_acs: float
    ann_other_acs: float
    firing_rates: dict[str, float]
    simple_energy: float

    def total(self, what: str) -> float:
        """The sum of a column ("macs", "acs", "ann_macs", "energy", "ann_energy") over layers."""
        return sum(getattr(layer, what) for layer in self.layers)

    @property
    def energy(self) -> float:
        """pJ per image, everything that is counted."""
        return self.total("energy") + E_AC * self.other_acs

    @property
    def ann_energy(self) -> float:
        """The same of the ANN."""
        return self.total("ann_energy") + E_AC * self.ann_other_acs


@torch.no_grad()
def count_operations(net: FoldedNetwork, x: Tensor) -> Operations:
    """Count on one batch; x (B, C, H, W) or (T, B, C, H, W)."""
    from spikingjelly.activation_based.op_counter import estimate_simple_energy

    names = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    images = x.shape[-4]
    macs, synops, acs = _counts(net, names, x)
    image = x if x.dim() == 4 else x.mean(0)
    ann_macs, _, ann_acs = _counts(net, names, image, _real_valued, T=1)
    layers = [
        LayerOperations(name, macs[name] / images, synops[name] / images, ann_macs[name] / images)
        for name in names
    ]
    return Operations(
        layers=layers,
        other_acs=(acs["Global"] - synops["Global"]) / images,
        ann_other_acs=ann_acs["Global"] / images,
        firing_rates=firing_rates(net, x),
        simple_energy=estimate_simple_energy(net, (x,)).energy_compute_pj / images,
    )


def _counts(
    net: FoldedNetwork,
    names: list[str],
    x: Tensor,
    fire: Fire = as_ever,
    T: int | None = None,
) -> list[dict[str, int]]:
    """MACs, SynOps and ACs of one forward pass, by layer, and of all under "Global"."""
    from spikingjelly.activation_based import op_counter

    counters = [op_counter.MACCounter(), op_counter.SynOpCounter(), op_counter.ACCounter()]
    with op_counter.DispatchCounterMode(counters):
        net(x, fire, T=T)
    scopes = {"Global": "Global", **{name: f"{type(net).__name__}.{name}" for name in names}}
    results = []
    for counter in counters:
        counts = counter.get_counts()
        results.append({k: sum(counts.get(scope, {}).values()) for k, scope in scopes.items()})
    return results


def _real_valued(neurons: Neurons, current: Tensor, residual: Tensor | None) -> Tensor:
    """What an activation function hands on: not zeros and ones. MACs depend on the shape alone."""
    return torch.full_like(added(current, residual), 0.5)


def firing_rates(net: FoldedNetwork, x: Tensor) -> dict[str, float]:
    """Spikes per neuron and time step of every spiking layer."""
    rates: dict[str, float] = {}

    def see(neurons: Neurons, current: Tensor, spikes: Tensor) -> None:
        rates[neurons.label] = spikes.mean(dtype=torch.float64).item()

    net(x, observed(see))
    return rates


def mean_operations(batches: Sequence[Operations], sizes: Sequence[int]) -> Operations:
    """The mean per image over batches of so many images."""

    def mean(*values: Any) -> Any:
        if isinstance(values[0], str):  # the name of a layer
            return values[0]
        return sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)

    return tree_map(mean, *batches)
