"""A network that skips silent inputs gives the answers of the one that does not.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

from copy import deepcopy

import pytest
import torch

from model import MODELS, build_model
from model.functional import Neuron
from model.inference.early_exit import answer
from model.inference.fold import fold
from model.inference.skipping import SkippingConv2d, skip_silence
from model.inference.stream import Stream
from model.kernel.sparse import library, spike_convolution
from tests.support.compiler import needs_compiler
from tests.support.trained_run import stir

T, SIDE, WIDTH = 3, 37, 33  # wide enough for layers in which skipping pays
SHALLOW = [arch for arch in MODELS if not arch.endswith("34")]
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def make(arch: str, **options):
    torch.manual_seed(3)
    given = {"num_classes": 7, "in_channels": 2, "T": T, "width": WIDTH, "branch_pool": None}
    return stir(build_model(arch, **given, **options)).double().eval()


def images(*, frames: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    shape = (T, 2, 2, SIDE, SIDE) if frames else (2, 2, SIDE, SIDE)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def in_few_bits(network, images):
    """Weights and pixels of which fp32 rounds no sum: with a decay of 1/2 no spike can flip."""
    for weight in network.parameters():
        weight.mul_(64).round_().div_(64)
    return network, images.mul(8).round().div(8)


class Skipped(list):
    """Whether the weights were arranged, of each convolution of bytes."""


@pytest.fixture
def skipped(monkeypatch):
    seen, convolve = Skipped(), spike_convolution.convolve

    def noting(spikes, convolution, *, arranged=None):
        seen.append(arranged is not None)
        return convolve(spikes, convolution, arranged=arranged)

    monkeypatch.setattr(spike_convolution, "convolve", noting)
    return seen


@needs_compiler
@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("arch", SHALLOW)
@torch.no_grad()
def test_every_way_to_an_answer_gives_the_same(arch, frames, skipped):
    """All steps at once, one frame after the other, and step by step with an early exit."""
    net, x = make(arch), images(frames=frames)
    expected, skipping = fold(net)(x), skip_silence(fold(net))
    assert not skipped
    torch.testing.assert_close(skipping(x), expected, **TIGHT)
    assert all(skipped) and len(skipped) >= 4
    torch.testing.assert_close(answer(skipping, x).logits, expected.mean(0), **TIGHT)
    stream = Stream(skipping)
    for t in range(T):
        so_far = stream.step(x[t] if frames else x)
        torch.testing.assert_close(so_far, expected[: t + 1].mean(0), **TIGHT)


@needs_compiler
@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("arch", SHALLOW)
@torch.no_grad()
def test_an_evaluation_skips_as_well(arch, frames):
    """Heads, logits of every step and firing rates of the trained network itself."""
    found = []
    for sparse in (False, True):
        net, rates = make(arch), []
        net.execution = net.execution._replace(sparse=sparse)
        for _, layer in net.spiking_layers():
            layer.register_forward_hook(lambda m, i, out, own=rates: own.append(out.over_time()))
        heads, logits = net.all_logits(images(frames=frames))
        assert {r.dtype for r in rates} == {torch.uint8 if sparse else torch.float64}
        found.append([*heads, logits, *(r.double() for r in rates)])
    torch.testing.assert_close(*found, **TIGHT)


@pytest.mark.parametrize("v_reset", [None, 0.0, -0.5])
@torch.no_grad()
def test_resets_and_floats(v_reset):
    net = fold(make("resnet18", v_reset=v_reset, decay=0.5).float())
    net, x = in_few_bits(net, images(frames=False).float())
    expected = net(x)
    torch.testing.assert_close(skip_silence(net)(x), expected, rtol=1e-5, atol=1e-5)


@needs_compiler
@torch.no_grad()
def test_weights_may_change_and_move(skipped):
    """They are arranged anew; in a dtype that cannot skip, layers are those of before."""
    net = make("resnet18", decay=0.5)
    skipping, other = skip_silence(fold(net)), fold(net)
    for weight in other.parameters():
        weight.mul_(1.5)
    other, x = in_few_bits(other, images(frames=False))
    skipping(x)
    skipping.load_state_dict(other.state_dict())
    expected = fold(net)
    expected.load_state_dict(other.state_dict())
    torch.testing.assert_close(skipping(x), expected(x), **TIGHT)
    skipping.float(), expected.float()
    torch.testing.assert_close(skipping(x.float()), expected(x.float()), rtol=1e-5, atol=1e-5)
    assert all(skipped)
    skipped.clear()
    lower = skipping.to(torch.bfloat16)(x.bfloat16())
    assert lower.equal(expected.to(torch.bfloat16)(x.bfloat16())) and not skipped
    with torch.autocast("cpu", torch.bfloat16):
        assert skipping.float()(x.float()).dtype == torch.bfloat16 and not skipped


@needs_compiler
@torch.no_grad()
def test_a_copy_in_a_file_is_arranged_where_it_is_read(tmp_path):
    skipping, x = skip_silence(fold(make("resnet18"))), images(frames=False)
    before = skipping(x)
    torch.save(skipping, tmp_path / "net.pt")
    copy = torch.load(tmp_path / "net.pt", weights_only=False)
    assert not any(getattr(layer, "_rows", None) is not None for layer in copy.modules())
    assert copy(x).equal(before) and deepcopy(skipping)(x).equal(before)


@torch.no_grad()
def test_without_the_operators_it_computes_as_before(monkeypatch):
    class Other(Neuron):
        pass

    net, x = make("resnet19"), images(frames=False)
    expected = fold(net)(x)
    other = skip_silence(fold(net))
    for neurons in other.neurons():
        neurons.neuron = Other(*neurons.neuron)
    assert other(x).equal(expected)
    monkeypatch.setattr("model.kernel.sparse.neurons.is_available", lambda: False)
    monkeypatch.setattr(library, "is_available", lambda: False)
    assert skip_silence(fold(net))(x).equal(expected)
    net.execution = net.execution._replace(sparse=True)
    spikes = net._run(net._start(x, None), ())[1]
    assert spikes.maps.dtype == torch.float64


@torch.no_grad()
def test_it_keeps_the_weights_and_their_names():
    folded = fold(make("resnet18"))
    before = {name: value.data_ptr() for name, value in folded.state_dict().items()}
    again = skip_silence(skip_silence(folded))
    after = {name: value.data_ptr() for name, value in again.state_dict().items()}
    assert list(after.items()) == list(before.items())
    assert sum(isinstance(m, SkippingConv2d) for m in folded.modules()) == 20
    assert not folded.training and not any(layer.training for layer in folded.modules())


def test_a_gradient_is_not_cut():
    """Where one is wanted, an evaluation is that of bptt, whatever the execution says."""
    net = make("resnet18")
    net.execution = net.execution._replace(sparse=True)
    x = images(frames=False).requires_grad_()
    net(x).sum().backward()
    assert x.grad.abs().sum() > 0
