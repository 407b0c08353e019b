"""A spike train is constant in time until neurons fire, and its layers run once until then.

In BPTT and in evaluation; nothing else changes.
"""

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import MODELS, build_model
from model.baseline.through_time import ThroughTime
from model.functional import Neuron, lif_rate
from model.layer import ConvNorm, LIFLayer
from model.spike_train import SpikeTrain
from tests.support.trained_run import stir

T, B, K, SIDE = 3, 2, 5, 19
STEMS = [
    (arch, stem)
    for arch, row in MODELS.items()
    for stem in (("published", "small") if row.large_stem else ("published",))
]
BPTT = ("bptt", "bptt_checkpointed")


def network(arch: str, stem: str, method: str):
    torch.manual_seed(0)
    options = {"num_classes": K, "T": T, "width": 3, "branch_pool": None}
    return stir(build_model(arch, stem=stem, method=method, **options)).double()


def image() -> tuple[Tensor, Tensor]:
    """A batch of images, and the same as frames."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(B, 3, SIDE, SIDE, dtype=torch.float64, generator=generator)
    return x, x.expand(T, *x.shape)


def run_before_neurons(net) -> list[str]:
    """The convolutions that read what is constant in time where the image is."""
    names = ["stem.conv"]
    block = net.stages[0][0]
    if isinstance(getattr(block, "fire", None), LIFLayer) and block.shortcut is not None:
        names.append("stages.0.0.shortcut.conv")
    return names


def calls_of(net) -> dict[str, list[int]]:
    """Of every convolution of the spiking network, the numbers of maps of its calls, which come."""
    calls: dict[str, list[int]] = {}
    for name, module in net.named_modules():
        if isinstance(module, ConvNorm):
            own = calls.setdefault(f"{name}.conv", [])
            module.conv.register_forward_hook(lambda m, i, out, own=own: own.append(len(out)))
    return calls


def assert_calls(net, calls: dict[str, list[int]], x: Tensor, runs: int = 1) -> None:
    once = run_before_neurons(net) if x.dim() == 4 else []
    for name, found in calls.items():
        assert found == runs * [B if name in once else T * B], name


@pytest.mark.parametrize(("method", "arch", "stem"), [(m, *s) for m, s in product(BPTT, STEMS)])
def test_training_equals_that_on_the_repeated_image(method, arch, stem) -> None:
    results = []
    for x in image():
        net = network(arch, stem, method)
        calls = calls_of(net)
        x.requires_grad_(x.dim() == 4)
        (logits,) = net(x)
        F.cross_entropy(logits, torch.arange(B)).backward()
        assert_calls(net, calls, x, runs=2 if method == "bptt_checkpointed" else 1)
        gradients = {f"{name}'s gradient": p.grad for name, p in net.named_parameters()}
        results.append({"logits": logits, **dict(net.named_buffers()), **gradients})
    assert results[0]["stem.conv.weight's gradient"].norm() > 0
    assert results[0]["stem.norm.num_batches_tracked"] == 1
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("arch", "stem"), STEMS)
@torch.no_grad()
def test_evaluation_equals_that_of_the_repeated_image(arch, stem) -> None:
    net, (x, frames) = network(arch, stem, "esd").eval(), image()
    calls = calls_of(net)
    for run in (net, net.time_logits, net.all_logits, net.head_logits):
        for own in calls.values():
            own.clear()
        logits = run(x)
        assert_calls(net, calls, x)
        torch.testing.assert_close(logits, run(frames), rtol=1e-12, atol=1e-12)
    assert net.time_logits(x).shape == (T, B, K)


def test_the_shortcuts_that_run_once() -> None:
    """The published MS-ResNets have one on the way past the first neurons."""
    with_shortcut = [stem for stem in STEMS if len(run_before_neurons(network(*stem, "bptt"))) > 1]
    assert with_shortcut == [("ms_resnet18", "published"), ("ms_resnet34", "published")]


@pytest.mark.parametrize("kind", [SpikeTrain, ThroughTime])
def test_it_varies_from_the_first_neurons_on_and_its_rate_is_the_mean(kind) -> None:
    x, frames = image()
    net, neurons = network("resnet18", "published", "bptt"), LIFLayer(Neuron(threshold=0.5))
    constant, moving = kind.start(x, T, net), kind.start(frames, T, net)
    assert constant.over_time().equal(x[None]) and moving.over_time().equal(frames)
    doubled = constant.map(lambda maps: 2 * maps).add(constant)
    assert doubled.is_constant and doubled.rate.equal(3 * x)
    fired = neurons(constant)
    assert not fired.is_constant and not moving.is_constant
    assert fired.over_time().equal(lif_rate(frames, *neurons.neuron)[0])
    for pair in (constant.add(fired), fired.add(constant)):
        assert not pair.is_constant
        assert pair.over_time().equal(fired.over_time() + frames)
        torch.testing.assert_close(pair.rate, x + fired.over_time().mean(0))
    assert type(fired) is type(pair) is kind


@pytest.mark.parametrize("kind", [SpikeTrain, ThroughTime])
def test_spikes_keep_the_order_and_the_layout_of_the_maps(kind) -> None:
    """Index t*B + b; what a convolution reads next lies in memory as what it read before."""
    maps = torch.randn(B, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    alone = kind(maps[1:], T, is_constant=True)
    neurons = LIFLayer(Neuron(threshold=0.5))
    for needs_gradient in (False, True):
        x = kind(maps.clone().requires_grad_(needs_gradient), T, is_constant=True)
        for train in (neurons(x).maps, x.add(neurons(x)).maps):
            assert train.is_contiguous(memory_format=torch.channels_last)
        assert neurons(x).maps[1::B].equal(neurons(alone).maps)
