"""Firing statistics and potentials against the equations of the neuron."""

import pytest
import torch

from experiment.trained.part.activity import measure_activity, trace_potentials, typical_places
from model import build_model
from model.inference.fold import fold
from model.inference.folded import observed
from tests.support.trained_run import stir

T = 5


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(1)
    built = build_model("resnet18", num_classes=5, in_channels=2, T=T, width=3)
    return fold(stir(built).double().eval())


def images(count=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 2, 13, 13, generator=generator, dtype=torch.float64)


def test_activity_over_batches_is_that_of_all_spikes(net):
    x, trains = images(), {}
    net(x, observed(lambda n, current, s: trains.__setitem__(n.label, s)))
    layers = measure_activity(net, [x[:1], x[1:]])
    assert [layer.name for layer in layers] == [neurons.label for neurons in net.neurons()]
    for layer in layers:
        train = trains[layer.name]
        torch.testing.assert_close(layer.rates, train.mean((0, 1)))
        assert layer.silent == (train.sum((0, 1)) == 0).double().mean().item()
        assert layer.saturated == (train.sum((0, 1)) == T * 4).double().mean().item()
    assert any(layer.silent > 0 for layer in layers)
    assert any(layer.saturated > 0 for layer in layers)


def test_potentials_obey_the_neurons_equation(net):
    x, currents = images(1), {}
    net(x, observed(lambda n, current, s: currents.__setitem__(n.label, (current[:, 0], s[:, 0]))))
    for trace in trace_potentials(net, x):
        current, spikes = (value[(slice(None), *trace.place)] for value in currents[trace.layer])
        assert torch.equal(trace.spikes, spikes)
        u = 0.0
        for t in range(T):
            v = 0.2 * u + current[t].item()
            assert trace.before[t].item() == pytest.approx(v, abs=1e-12)
            u = v - (1.0 if v >= 1 else 0.0)
            assert trace.after[t].item() == pytest.approx(u, abs=1e-12)


def test_a_chosen_neuron_is_shown_and_a_wrong_one_refused(net):
    (trace,) = trace_potentials(net, images(1), [("stages.1.0.unit2", (2, 1, 0))])
    assert trace.label == "stages.1.0.unit2:2,1,0"
    with pytest.raises(ValueError, match="no spiking layer 'x': choose from stem, "):
        trace_potentials(net, images(1), [("x", (0,))])
    for place in ((3, 0, 0), (0, 0), (0, -1, 0)):
        with pytest.raises(ValueError, match=r"expected a place within \(3, 13, 13\)"):
            trace_potentials(net, images(1), [("stem", place)])


def test_typical_neurons_are_half_busy_and_busiest():
    spikes = torch.zeros(4, 2, 3)
    spikes[:2, 1, 0] = 1
    spikes[:, 1, 2] = 1
    assert typical_places(spikes) == [(1, 0), (1, 2)]


def test_typical_neurons_are_two_where_there_are_two():
    assert typical_places(torch.zeros(4, 2)) == [(0,), (1,)]
    assert typical_places(torch.ones(4, 1)) == [(0,)]
