"""A network that skips silent inputs gives the answers of the one that does not.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

import pytest
import torch
from torch import nn

from model import MODELS, build_model
from model.functional import Neuron
from model.inference.early_exit import answer
from model.inference.fold import fold
from model.inference.folded import FoldedNetwork
from model.inference.skipping import skip_silence
from model.inference.stream import Stream
from model.kernel.sparse import library
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


def skips(net: FoldedNetwork) -> bool:
    return all(neurons.as_bytes for neurons in net.neurons())


@needs_compiler
@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("arch", SHALLOW)
@torch.no_grad()
def test_every_way_to_an_answer_gives_the_same(arch, frames):
    """All steps at once, one frame after the other, and step by step with an early exit."""
    net, x = make(arch), images(frames=frames)
    expected, skipping = fold(net)(x), skip_silence(fold(net))
    assert skips(skipping)
    torch.testing.assert_close(skipping(x), expected, **TIGHT)
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


@pytest.mark.parametrize("v_reset", [None, 0.0, -0.4])
@torch.no_grad()
def test_resets_and_floats(v_reset):
    """In fp32 spikes may flip, but none does on these images."""
    net, x = make("resnet18", v_reset=v_reset, decay=0.6), images(frames=False)
    own = skip_silence(fold(net.float()))(x.float())
    torch.testing.assert_close(own, fold(net)(x.float()), rtol=1e-3, atol=1e-3)


def test_where_it_cannot_it_leaves_the_network_as_it_is(monkeypatch):
    class Other(Neuron):
        pass

    net = make("resnet19")
    assert not skips(skip_silence(fold(net.to(torch.bfloat16))))
    net.double()
    assert not skips(skip_silence(fold(net).to("meta")))
    other = fold(net)
    other.neurons()[3].neuron = Other()
    assert not skips(skip_silence(other))
    monkeypatch.setattr("model.kernel.sparse.neurons.is_available", lambda: False)
    monkeypatch.setattr(library, "is_available", lambda: False)
    own = skip_silence(fold(net))
    assert not skips(own)
    net.execution = net.execution._replace(sparse=True)
    with torch.no_grad():
        x = images(frames=False)
        assert own(x).equal(fold(net)(x))
        spikes = net._run(net._start(x, None), ())[1]
    assert spikes.maps.dtype == torch.float64


@torch.no_grad()
def test_it_keeps_the_weights_and_their_names():
    folded = fold(make("resnet18"))
    before = {name: value.clone() for name, value in folded.state_dict().items()}
    after = skip_silence(folded).state_dict()
    assert list(after) == list(before)
    assert all(after[name].equal(value) for name, value in before.items())
    assert sum(isinstance(m, nn.Conv2d) for m in folded.modules()) == 20


def test_a_gradient_is_not_cut():
    """Where one is wanted, an evaluation is that of bptt, whatever the execution says."""
    net = make("resnet18")
    net.execution = net.execution._replace(sparse=True)
    x = images(frames=False).requires_grad_()
    net(x).sum().backward()
    assert x.grad.abs().sum() > 0
