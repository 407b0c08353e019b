"""The folded network fires the trained network's spikes; one frame at a time gives the same."""

import pytest
import torch
from torch import nn

from model import build_model, functional
from model.functional import Neuron
from model.inference.fold import fold
from model.inference.folded import FoldedNetwork, Neurons, observed
from model.inference.stream import Stream
from tests.support.trained_run import stir

ARCHS = (
    "resnet18",
    "resnet19",
    "preact_resnet18",
    "preact_resnet34",
    "vgg11",
    "vggsnn",
    "sew_resnet18",
    "ms_resnet18",
)
SIDE = 37


def make(arch: str, T: int = 3, **options):
    torch.manual_seed(3)
    net = build_model(arch, num_classes=7, in_channels=2, T=T, width=3, **options)
    return stir(net).double().eval()


def images(*, frames: bool, batch: int = 2, T: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (T, batch, 2, SIDE, SIDE) if frames else (batch, 2, SIDE, SIDE)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def spikes_of_trained(net, x):
    trains = {}
    handles = [
        module.register_forward_hook(
            lambda m, i, out, name=name: trains.__setitem__(name, out.over_time())
        )
        for name, module in net.spiking_layers()
    ]
    logits = net.time_logits(x)
    for handle in handles:
        handle.remove()
    return trains, logits


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
@torch.no_grad()
def test_folded_network_fires_the_same_spikes_under_the_same_names(arch, frames):
    net, x = make(arch), images(frames=frames)
    expected, logits = spikes_of_trained(net, x)
    trains = {}
    folded = fold(net)
    found = folded(x, observed(lambda n, current, s: trains.__setitem__(n.label, s)))
    assert list(trains) == list(expected)
    for name, train in expected.items():
        assert torch.equal(trains[name], train), name
        assert 0 < train.mean() < 1, name
    torch.testing.assert_close(found, logits, rtol=1e-12, atol=1e-12)
    assert torch.equal(found, folded(x))


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
@torch.no_grad()
def test_any_number_of_steps_gives_the_logits_of_a_network_made_for_it(arch, frames):
    folded, x, trains = fold(make(arch)), images(frames=frames, T=5), []
    own = folded(images(frames=False))
    see = observed(lambda n, current, spikes: trains.append((current, spikes)))
    logits = folded(x, see, T=5)
    assert torch.equal(logits, fold(make(arch, T=5))(x))
    assert torch.equal(logits, folded(x, T=5))
    assert all(maps.shape[:2] == (5, 2) for pair in trains for maps in pair)
    assert folded.T == len(own) == 3
    assert torch.equal(own, folded(images(frames=False)))


@pytest.mark.parametrize(
    "neuron",
    [
        {"v_reset": 0.0},
        {"v_reset": -0.4, "decay": 0.6},
        {"decay": 1.0},
        {"decay": 0.0},
        {"thresh": 0.7},
    ],
)
@torch.no_grad()
def test_folded_network_has_the_neurons_of_the_trained_one(neuron):
    net, x = make("resnet19", **neuron), images(frames=True)
    torch.testing.assert_close(fold(net)(x), net.time_logits(x), rtol=1e-12, atol=1e-12)


def test_folded_network_has_no_batch_norm_no_branch_and_its_own_weights():
    net = make("resnet18")
    folded = fold(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert not any("branch" in name for name, _ in folded.named_modules())
    theirs = {p.data_ptr() for p in net.parameters()}
    assert not theirs & {p.data_ptr() for p in folded.parameters()}
    assert not folded.training


@pytest.mark.parametrize("arch", ARCHS)
@torch.no_grad()
def test_a_frame_at_a_time_gives_the_logits_of_all_at_once(arch):
    folded, x = fold(make(arch)), images(frames=True)
    stream, logits = Stream(folded), folded(x)
    for t in range(3):
        so_far = stream.step(x[t])
        torch.testing.assert_close(so_far, logits[: t + 1].mean(0), rtol=1e-12, atol=1e-12)
    assert stream.steps == 3
    stream.reset()
    torch.testing.assert_close(stream.step(x[0]), logits[0], rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_step_keeps_no_state_and_refuses_potentials_of_another_batch():
    folded, x = fold(make("resnet18")), images(frames=True)
    _, potentials = folded.step(x[0])
    first, _ = folded.step(x[1], potentials)
    again, _ = folded.step(x[1], potentials)
    assert torch.equal(first, again)
    assert not torch.equal(first, folded.step(x[1])[0])
    with pytest.raises(ValueError, match=r"potentials of stem have shape .* expected"):
        folded.step(x[1][:1], potentials)
    with pytest.raises(ValueError, match="got 1 potentials for 17 spiking layers"):
        folded.step(x[1], potentials[:1])
    with pytest.raises(ValueError, match="got 18 potentials for 17 spiking layers"):
        folded.step(x[1], [*potentials, potentials[-1]])


@torch.no_grad()
def test_potentials_are_never_below_fp32():
    neurons = Neurons("layer", Neuron(decay=0.5))
    current = torch.randn(3, 40, 5, 7).to(torch.bfloat16)
    _, spikes, u = neurons.advance(None, current[0])
    assert (spikes.dtype, u.dtype) == (torch.bfloat16, torch.float32)
    expected, _, _ = functional.lif_rate(current.float(), *neurons.neuron)
    assert torch.equal(neurons.over_time(current), expected.to(current.dtype))


@pytest.mark.parametrize(
    "T, message",
    [
        (2, "T = 2 time steps, got 3"),
        (0, "T must be a whole number >= 1, got 0"),
        (2.5, "T must be a whole number >= 1, got 2.5"),
    ],
)
def test_a_wrong_number_of_steps_is_refused(T, message):
    with pytest.raises(ValueError, match=message):
        fold(make("resnet18"))(images(frames=True), T=T)


@pytest.mark.parametrize(
    "shape, message",
    [
        ((2, SIDE, SIDE), "expected images"),
        ((1, 3, SIDE, SIDE), "2 input channels, got 3"),
        ((4, 1, 2, SIDE, SIDE), "T = 3 time steps, got 4"),
    ],
)
def test_wrong_shapes_are_refused_in_a_sentence(shape, message):
    folded: FoldedNetwork = fold(make("resnet18"))
    with pytest.raises(ValueError, match=message):
        folded(torch.zeros(shape, dtype=torch.float64))
    if len(shape) != 4:
        with pytest.raises(ValueError, match="expected images"):
            folded.step(torch.zeros(shape, dtype=torch.float64))
