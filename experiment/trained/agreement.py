"""Whether two forms of a network fire the same spikes, spike by spike."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from model import RateModel
from model.activation import Activation
from model.inference.fold import fold
from model.inference.folded import FoldedNetwork, Neurons, observed


class Agreement(NamedTuple):
    """How two networks compare on some images.

    places: neurons times steps times images; spikes: how many of the first network's fired;
    different: at how many places one fired and the other did not; answers: images to which both
    give the same class.
    """

    images: int
    places: int
    spikes: int
    different: int
    answers: int

    def sentence(self) -> str:
        """The comparison in words."""
        if self.different == 0 and self.answers == self.images:
            return f"all {self.spikes:,} spikes identical on {self.images:,} images"
        share = self.different / self.places
        return (
            f"{self.different:,} of {self.places:,} places differ ({share:.1e}), "
            f"the same class for {self.answers:,} of {self.images:,} images"
        )


class SpikeReader(fx.Interpreter):
    """Runs an exported program and keeps every spike train: a spike is where `ge` compares."""

    def __init__(self, program: torch.export.ExportedProgram):
        super().__init__(program.module())
        self.trains: list[Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.target is torch.ops.aten.ge.Scalar:
            self.trains.append(result)
        return result


@torch.no_grad()
def folding_agreement(net: RateModel, batches: Iterable[Tensor], dtype: torch.dtype) -> Agreement:
    """The trained network against its folded form, both computed in `dtype`."""
    net = copy.deepcopy(net).to(dtype)
    folded = fold(net)
    total = Agreement(0, 0, 0, 0, 0)
    for x in batches:
        x = x.to(dtype)
        with spikes_of(net) as expected:
            logits = net.time_logits(x)
        found, folded_logits = spikes_and_logits(folded, x)
        total = _added(total, expected, found, logits.mean(0), folded_logits.mean(0))
    return total


@torch.no_grad()
def program_agreement(
    net: FoldedNetwork, program: torch.export.ExportedProgram, batches: Iterable[Tensor]
) -> Agreement:
    """The folded network against its exported program, spike by spike of every layer."""
    total = Agreement(0, 0, 0, 0, 0)
    for x in batches:
        expected, logits = spikes_and_logits(net, x)
        reader = SpikeReader(program)
        program_logits = reader.run(x)
        steps = [reader.trains[i : i + net.T] for i in range(0, len(reader.trains), net.T)]
        found = [torch.cat(train).to(x.dtype) for train in steps]
        total = _added(total, list(expected), found, logits.mean(0), program_logits.mean(0))
    return total


def _added(
    total: Agreement, expected: list[Tensor], found: list[Tensor], logits: Tensor, others: Tensor
) -> Agreement:
    if len(expected) != len(found):
        raise ValueError(f"{len(expected)} spiking layers, but {len(found)} in the other network")
    pairs = list(zip(expected, found, strict=True))
    addends = (
        len(logits),
        sum(train.numel() for train in expected),
        sum(int(train.sum(dtype=torch.float64)) for train in expected),
        sum(int((a != b).sum()) for a, b in pairs),
        int((logits.argmax(-1) == others.argmax(-1)).sum()),
    )
    return Agreement(*(a + b for a, b in zip(total, addends, strict=True)))


@contextmanager
def spikes_of(net: RateModel) -> Iterator[list[Tensor]]:
    """A list that fills with the spike train (T*B, ...) of every spiking layer, in order."""
    trains: list[Tensor] = []

    def hook(module: torch.nn.Module, inputs: Any, spikes: Activation) -> None:
        trains.append(spikes.over_time().flatten(0, 1))

    handles = [module.register_forward_hook(hook) for _, module in net.spiking_layers()]
    try:
        yield trains
    finally:
        for handle in handles:
            handle.remove()


def spikes_and_logits(net: FoldedNetwork, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """The spike trains (T*B, ...) of a folded network in order, and its logits (T, B, K)."""
    trains: list[Tensor] = []

    def see(neurons: Neurons, current: Tensor, spikes: Tensor) -> None:
        trains.append(spikes.flatten(0, 1))

    return trains, net(x, observed(see))
