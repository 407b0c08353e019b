"""The folded network fires the trained network's spikes; one frame at a time gives the same."""

import pytest
import torch
from torch import nn

from model import MODELS, build_model, functional
from model.functional import Neuron
from model.inference.fold import fold
from model.inference.folded import Neurons, observed
from model.inference.stream import Stream
from tests.support.trained_run import stir

ARCHS = [arch for arch in MODELS if arch not in ("sew_resnet34", "ms_resnet34")]
T, SIDE = 3, 37


def make(arch: str, **options):
    """Made for two time steps, and called with three."""
    torch.manual_seed(3)
    net = build_model(arch, num_classes=7, in_channels=2, T=2, width=3, **options)
    return stir(net).double().eval()


def images(*, frames: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (T, 2, 2, SIDE, SIDE) if frames else (2, 2, SIDE, SIDE)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("arch", ARCHS)
@torch.no_grad()
def test_folded_network_fires_the_same_spikes_under_the_same_names(arch, frames):
    net, x, expected, found = make(arch), images(frames=frames), {}, {}
    for name, layer in net.spiking_layers():
        layer.register_forward_hook(
            lambda m, i, out, name=name: expected.update({name: out.over_time()})
        )
    logits, folded = net.time_logits(x, T=T), fold(net)
    own = folded(x, observed(lambda n, current, spikes: found.update({n.label: spikes})), T=T)
    assert list(found) == list(expected)
    for name, train in expected.items():
        assert torch.equal(found[name], train), name
        assert set(train.unique().tolist()) == {0.0, 1.0}, name
    torch.testing.assert_close(own, logits, rtol=1e-12, atol=1e-12)
    assert torch.equal(own, folded(x, T=T))


@pytest.mark.parametrize("decay", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.4])
@torch.no_grad()
def test_folded_network_has_the_neurons_of_the_trained_one(v_reset, decay):
    net = make("resnet19", v_reset=v_reset, decay=decay, thresh=0.7)
    x = images(frames=True)
    own, expected = fold(net)(x, T=T), net.time_logits(x, T=T)
    torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-12)


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
    stream, logits = Stream(folded), folded(x, T=T)
    for t in range(T):
        so_far = stream.step(x[t])
        torch.testing.assert_close(so_far, logits[: t + 1].mean(0), rtol=1e-12, atol=1e-12)
    assert stream.steps == T
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
    with pytest.raises(ValueError, match=r"expected images \(B, C, H, W\), got shape \(3, 2, 2"):
        folded.step(x)


@torch.no_grad()
def test_potentials_are_never_below_fp32():
    neurons = Neurons("layer", Neuron(decay=0.5))
    current = torch.randn(3, 40, 5, 7).to(torch.bfloat16)
    _, spikes, u = neurons.advance(None, current[0])
    assert (spikes.dtype, u.dtype) == (torch.bfloat16, torch.float32)
    expected, _, _ = functional.lif_rate(current.float(), *neurons.neuron)
    assert torch.equal(neurons.over_time(current), expected.to(current.dtype))


def test_an_unknown_block_is_refused():
    net = build_model("resnet18", num_classes=3, T=2, width=2)
    net.stages[1][0] = nn.Identity()
    with pytest.raises(ValueError, match=r"cannot fold stages\.1\.0 \(Identity\)"):
        fold(net)
    net.stem = nn.Conv2d(3, 2, 3)
    with pytest.raises(ValueError, match=r"cannot fold the stem \(Conv2d\)"):
        fold(net)
