"""NIR graphs, read back by the nir package and run by spikingjelly's own importer."""

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
    write_nir(to_nir(net, height=side, width=side), tmp_path / "graph.nir")
    reader = import_from_nir(str(tmp_path / "graph.nir"), dt=TIME_STEP, dtype=torch.float64)
    frames = torch.randn(T, 2, 2, side, side, dtype=torch.float64)
    state, logits = None, []
    for frame in frames:
        step, state = reader(frame, state)
        logits.append(step)
    expected = net(frames)
    assert expected.std(0).max() > 1e-3, "the network must change its answer over time"
    torch.testing.assert_close(torch.stack(logits), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("decay, v_reset", [(0.2, -0.3), (0.0, 0.0)])
def test_neurons_obey_nirs_equation_in_eulers_method(tmp_path, decay, v_reset):
    net = make(decay=decay, v_reset=v_reset)
    write_nir(to_nir(net, height=SIDE, width=SIDE), tmp_path / "graph.nir")
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
