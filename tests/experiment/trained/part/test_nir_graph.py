"""NIR graphs, read back by the nir package and run by spikingjelly's own importer."""

import json
from contextlib import suppress

import nir
import numpy as np
import pytest
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir

from experiment.trained.part.nir_graph import TIME_STEP, to_nir, write_nir
from model import build_model
from model.inference.fold import fold
from tests.support.trained_run import stir

T, SIDE = 4, 19
ABOUT = {"network": {"T": T}, "read_out": "the mean"}


def make(arch="resnet18", **options):
    torch.manual_seed(2)
    options = {"v_reset": 0.0} | options
    net = build_model(arch, num_classes=5, in_channels=2, T=T, width=3, **options)
    return fold(stir(net).double().eval())


NETWORKS = [
    ("resnet18", "published", 0.2),
    ("resnet19", "published", 0.7),
    ("resnet18", "published", 1.0),
    ("vgg11", "published", 0.2),
    ("vggsnn", "published", 0.5),
    ("preact_resnet18", "small", 0.2),
    ("sew_resnet18", "small", 0.2),
    ("ms_resnet18", "published", 0.2),
]


@pytest.mark.parametrize("arch, stem, decay", NETWORKS)
@torch.no_grad()
def test_spikingjelly_runs_the_written_graph_to_the_same_logits(tmp_path, arch, stem, decay):
    net = make(arch, stem=stem, decay=decay)
    side = 24 if arch == "vggsnn" else SIDE
    write_nir(to_nir(net, height=side, width=side), ABOUT, tmp_path / "graph.nir")
    reader = import_from_nir(str(tmp_path / "graph.nir"), dt=TIME_STEP, dtype=torch.float64)
    frames = torch.randn(T, 2, 2, side, side, dtype=torch.float64)
    state, logits = None, []
    for frame in frames:
        step, state = reader(frame, state)
        logits.append(step)
    expected = net(frames)
    assert expected.std(0).max() > 1e-3, "the network must change its answer over time"
    torch.testing.assert_close(torch.stack(logits), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{"decay": 0.0}, {"v_reset": -0.3}])
def test_spikingjelly_refuses_what_it_would_compute_otherwise(options):
    with pytest.raises(ValueError, match=r"must be finite and greater than 1|must equal v_reset"):
        import_from_nir(to_nir(make(**options), height=SIDE, width=SIDE), dt=TIME_STEP)


@pytest.mark.parametrize("arch, stem, decay", [case for case in NETWORKS if case[2] < 1])
@torch.no_grad()
def test_snntorch_runs_the_written_graph_to_the_same_logits(tmp_path, arch, stem, decay, capsys):
    reader = pytest.importorskip("snntorch.import_nir")
    net = make(arch, stem=stem, decay=decay)
    side = 24 if arch == "vggsnn" else SIDE
    write_nir(to_nir(net, height=side, width=side), ABOUT, tmp_path / "graph.nir")
    module = reader.import_from_nir(nir.read(tmp_path / "graph.nir")).float()  # its spikes are
    frames, state, logits = torch.randn(T, 2, 2, side, side), None, []
    for frame in frames:
        step, state = module(frame, state)
        logits.append(step)
    expected = net(frames.double())
    assert expected.std(0).max() > 1e-3, "the network must change its answer over time"
    torch.testing.assert_close(torch.stack(logits).double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arch, decay", [("vgg11", 0.2), ("resnet18", 0.2), ("resnet18", 0.0)])
@torch.no_grad()
def test_norse_gives_no_logits_or_wrong_ones(arch, decay):
    """It has no average pooling, and adds up before all is there; this fails once norse can."""
    norse = pytest.importorskip("norse.torch")
    net, frame, found = make(arch, decay=decay), torch.randn(3, 2, SIDE, SIDE), torch.zeros(())
    with suppress(KeyError, RuntimeError):
        reader = norse.from_nir(to_nir(net, height=SIDE, width=SIDE), dt=TIME_STEP)
        found, _ = reader(frame)
    expected, _ = net.step(frame.double())
    assert found.shape != expected.shape or (found - expected).abs().max() > 0.1


def test_norse_ignores_the_resistance_of_a_neuron():
    norse = pytest.importorskip("norse.torch")
    node = to_nir(make(decay=0.5), height=SIDE, width=SIDE).nodes["stem_neurons"]
    assert (node.r == 2).all()
    shape, threshold = node.r.shape, float(node.v_threshold.max())
    nodes = {"input": nir.Input(shape), "lif": node, "output": nir.Output(shape)}
    graph = nir.NIRGraph(nodes, [("input", "lif"), ("lif", "output")])
    spikes, _ = norse.from_nir(graph, dt=TIME_STEP)(torch.full((1, *shape), 1.5 * threshold))
    assert not spikes.any(), "above the threshold, were R not taken as 1"


def test_a_graph_says_its_time_step_and_read_out(tmp_path):
    write_nir(to_nir(make(), height=SIDE, width=SIDE), ABOUT, tmp_path / "graph.nir")
    metadata = nir.read(tmp_path / "graph.nir").metadata
    assert (metadata["dt"], metadata["T"], metadata["read_out"]) == (TIME_STEP, T, "the mean")
    assert json.loads(metadata["description"]) == ABOUT


@pytest.mark.parametrize("decay, v_reset", [(0.2, -0.3), (0.0, 0.0)])
def test_neurons_obey_nirs_equation_in_eulers_method(tmp_path, decay, v_reset):
    net = make(decay=decay, v_reset=v_reset)
    write_nir(to_nir(net, height=SIDE, width=SIDE), ABOUT, tmp_path / "graph.nir")
    node = nir.read(tmp_path / "graph.nir").nodes["stages_1_0_between"]
    current = np.random.default_rng(0).normal(0.6, 0.5, (T, *node.tau.shape))
    v, trains = np.zeros_like(node.tau), []
    for x in current:
        v = v + TIME_STEP / node.tau * ((node.v_leak - v) + node.r * x)
        spikes = v > node.v_threshold
        v = np.where(spikes, node.v_reset, v)
        trains.append(spikes)
    neurons = net.stages[1][0].between
    found = neurons.over_time(torch.from_numpy(current))
    assert np.array_equal(np.stack(trains).reshape(found.shape), found.bool().numpy())


def test_graph_has_every_layer_and_its_shapes():
    graph = to_nir(make(), height=SIDE, width=SIDE)
    kinds = [type(node).__name__ for node in graph.nodes.values()]
    assert kinds.count("Conv2d") == 1 + 16 + 3
    assert kinds.count("LIF") == 17
    assert graph.nodes["input"].input_type["input"].tolist() == [2, SIDE, SIDE]
    assert graph.nodes["output"].output_type["output"].tolist() == [5]
    flatten = graph.nodes["pool_flatten"]  # readers that count a batch keep it
    batch = torch.zeros(2, *flatten.input_type["input"])
    assert batch.flatten(flatten.start_dim, flatten.end_dim).shape == (2, 24)
    into_sum = {source for source, target in graph.edges if target == "stages_0_0_after"}
    assert into_sum == {"stem_neurons", "stages_0_0_unit2"}


INEXPRESSIBLE = [
    ({"v_reset": None}, "soft reset.*--v_reset 0"),
    ({"arch": "preact_resnet18"}, "max pooling"),
    ({"arch": "vggsnn"}, "maps of 2x2 into 3x3"),
]


@pytest.mark.parametrize("options, message", INEXPRESSIBLE)
def test_what_nir_cannot_express_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        to_nir(make(**options), height=SIDE, width=SIDE)
