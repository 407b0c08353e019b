"""Whether two forms of a network fire the same spikes, spike by spike."""

from __future__ import annotations

import copy
import operator
from collections.abc import Iterable
from contextlib import ExitStack
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
        if self.different == 0 and self.answers == self.images:
            return f"all {self.spikes:,} spikes identical on {self.images:,} images"
        share = self.different / self.places
        return (
            f"{self.different:,} of {self.places:,} places differ ({share:.1e}), "
            f"the same class for {self.answers:,} of {self.images:,} images"
        )


Firing = tuple[list[Tensor], Tensor]  # spikes (T*B, ...) of each layer in order, logits (T, B, K)


def folding_agreement(net: RateModel, batches: Iterable[Tensor], dtype: torch.dtype) -> Agreement:
    """The trained network against its folded form, both computed in `dtype`."""
    net = copy.deepcopy(net).to(dtype)
    folded = fold(net)
    inputs = (x.to(dtype) for x in batches)
    return _compared((firing_of_trained(net, x), firing_of_folded(folded, x)) for x in inputs)


def program_agreement(
    net: FoldedNetwork, program: torch.export.ExportedProgram, batches: Iterable[Tensor]
) -> Agreement:
    """The folded network against its exported program, spike by spike of every layer."""
    return _compared(
        (firing_of_folded(net, x), firing_of_program(program, net.T, x)) for x in batches
    )


@torch.no_grad()
def _compared(pairs: Iterable[tuple[Firing, Firing]]) -> Agreement:
    total = Agreement(0, 0, 0, 0, 0)
    for (expected, logits), (found, others) in pairs:
        if len(expected) != len(found):
            raise ValueError(
                f"{len(expected)} spiking layers, but {len(found)} in the other network"
            )
        answers = logits.mean(0).argmax(-1) == others.mean(0).argmax(-1)
        addends = (
            len(answers),
            sum(train.numel() for train in expected),
            sum(int(train.sum(dtype=torch.float64)) for train in expected),
            sum(int((a != b).sum()) for a, b in zip(expected, found, strict=True)),
            int(answers.sum()),
        )
        total = Agreement(*map(operator.add, total, addends))
    return total


def firing_of_trained(net: RateModel, x: Tensor) -> Firing:
    """The network in eval mode, with its batch norms."""
    trains: list[Tensor] = []

    def hook(module: torch.nn.Module, inputs: Any, spikes: Activation) -> None:
        trains.append(spikes.over_time().flatten(0, 1))

    with ExitStack() as hooks:
        for _, module in net.spiking_layers():
            hooks.enter_context(module.register_forward_hook(hook))
        return trains, net.time_logits(x)


def firing_of_folded(net: FoldedNetwork, x: Tensor) -> Firing:
    trains: list[Tensor] = []

    def see(neurons: Neurons, current: Tensor, spikes: Tensor) -> None:
        trains.append(spikes.flatten(0, 1))

    return trains, net(x, observed(see))


def firing_of_program(program: torch.export.ExportedProgram, T: int, x: Tensor) -> Firing:
    """The program over T time steps: a spike is where `ge` compares."""
    steps: list[Tensor] = []

    class Reader(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.target is torch.ops.aten.ge.Scalar:
                steps.append(result)
            return result

    logits = Reader(program.module()).run(x)
    trains = [torch.cat(steps[i : i + T]).to(x.dtype) for i in range(0, len(steps), T)]
    return trains, logits
