"""Every activation has every verb, under the same names: layers may call any of them on any."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from model.activation import Activation, BatchActivation
from model.baseline.online import OnlineStep
from model.baseline.through_time import ThroughTime
from model.functional import Neuron
from model.kernel import DEFAULT_EXECUTION
from model.layer import AveragePool, ConvNormLIF, LIFLayer, Linear, MaxPool, Shortcut, average_pool
from model.method import METHODS, Method
from model.rate_pair import RatePair
from model.spike_train import SpikeTrain

OF_WHOLE_BATCHES = (RatePair, SpikeTrain, ThroughTime)
ACTIVATIONS = (*OF_WHOLE_BATCHES, OnlineStep)
VERBS = [
    name
    for name, member in vars(Activation).items()
    if inspect.isfunction(member) and not name.startswith("_")
]


def parameters(function) -> list[tuple]:
    """(name, kind, default) of each."""
    found = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in found]


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_has_every_verb_with_the_same_parameters_and_a_rate(kind):
    for verb in VERBS:
        assert parameters(getattr(kind, verb)) == parameters(getattr(Activation, verb)), verb
    if kind in OF_WHOLE_BATCHES:
        assert parameters(kind.start) == parameters(BatchActivation.start)
    assert "rate" in getattr(kind, "_fields", ()) or isinstance(kind.rate, property)


def test_methods_have_no_other_activation():
    for row in METHODS.values():
        assert row.evaluation in OF_WHOLE_BATCHES
        assert (row.activation is None) if row.online else (row.activation in OF_WHOLE_BATCHES)


def test_which_methods_flow_through_rates():
    class Own(RatePair):
        """As somebody's own method would have."""

    assert [name for name, row in METHODS.items() if row.by_rates] == ["esd", "rate"]
    assert Method("a variant", Own).by_rates


class Pooled(torch.nn.Sequential):
    """Its layers on the mean over the map."""

    def forward(self, x):
        return super().forward(x.map(average_pool))


class Doubled(torch.nn.Module):
    def forward(self, x):
        return x.add(x)


LAYERS = {
    "conv_norm": lambda: ConvNormLIF(2, 3, 3, neuron=Neuron()),
    "shortcut": lambda: Shortcut(2, 3, 1),
    "fire": lambda: LIFLayer(Neuron()),
    "linear": lambda: Pooled(Linear(2, 3)),
    "map": lambda: AveragePool(2),
    "max_pool": lambda: MaxPool(2),
    "add": Doubled,
}


def test_there_is_a_layer_of_every_verb():
    assert set(LAYERS) == set(VERBS) - {"over_time"}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_a_verb_of_a_subclass_makes_one_of_it(kind, layer, compiled):
    """So that a method may change one verb and inherit the others; and so if layers compile."""

    class Own(kind):
        pass

    frames = torch.rand(3, 2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    if kind is OnlineStep:
        x = Own(frames[0], None, {}, 0.5)
    else:
        x = Own.start(frames, 3, SimpleNamespace(execution=DEFAULT_EXECUTION))
    run = LAYERS[layer]()
    if compiled:
        torch.compiler.reset()
        run.compile(backend="eager")
    out = run(x)
    assert type(out) is Own
    assert out.rate.isfinite().all()
