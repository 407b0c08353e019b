"""Blocks that run again in the backward pass: what is kept, and that nothing else is seen of it."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from benchmark.speed.measure import saved_bytes
from model import build_model
from model.baseline.checkpointed import recomputed
from model.baseline.through_time import ThroughTime
from model.functional import Neuron
from model.layer import ConvNormLIF
from model.rate_pair import Facts, RatePair

T, B, K = 3, 2, 4


def network(method: str = "bptt_checkpointed"):
    torch.manual_seed(0)
    options = {"num_classes": K, "T": T, "width": 3, "branch_pool": None, "thresh": 0.5}
    return build_model("resnet19", method=method, **options).double()


def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, 3, 12, 12, dtype=torch.float64, generator=generator)


def result_of_training(net) -> dict[str, torch.Tensor]:
    (logits,) = net(image())
    F.cross_entropy(logits, torch.arange(B)).backward()
    gradients = {f"{name}'s gradient": p.grad for name, p in net.named_parameters()}
    return {"logits": logits.detach(), **gradients, **net.state_dict()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def runs_of(net) -> list[int]:
    """A list that fills with the number of maps of every run of a convolution of each part."""
    runs: list[int] = []
    for part in (net.stem, net.stages[0][0].unit1, net.stages[-1][-1].unit2):
        part.conv.register_forward_hook(lambda module, inputs, out: runs.append(len(out)))
    return runs


def test_a_layer_keeps_its_input_alone() -> None:
    layer = ConvNormLIF(4, 6, 3, bias=True, neuron=Neuron(threshold=0.5)).double()
    maps = (torch.rand(T * B, 4, 6, 5) < 0.4).double().requires_grad_()
    x = ThroughTime(maps, T, is_constant=False)
    parameters = sum(p.nbytes for p in layer.parameters())
    kept = saved_bytes(lambda: recomputed(layer, x), ())
    assert maps.nbytes <= kept <= maps.nbytes + parameters < saved_bytes(lambda: layer(x), ())


def test_a_pair_is_kept_by_its_parts() -> None:
    """What has been counted already is among them: nothing outlives the block unseen."""
    first, layer = (ConvNormLIF(c, 4, 3, neuron=Neuron(threshold=0.5)).double() for c in (3, 4))
    image = torch.randn(B, 3, 6, 5, dtype=torch.float64)
    x = first(RatePair(image, image, Facts(T)))
    parameters = [*first.parameters(), *layer.parameters()]
    kept = saved_bytes(lambda: recomputed(layer, x), parameters)
    assert kept == sum(part.nbytes for part in (x.train, x.rate, x.counts))


def test_a_network_trains_as_without() -> None:
    """Statistics move once; the state dict has the same names in the same order."""
    net = network()
    runs = runs_of(net)
    found = result_of_training(net)
    assert sorted(runs) == sorted(2 * [B] + 4 * [T * B])  # the image is constant, what fires is not
    assert_equal(found, result_of_training(network("bptt")))
    assert found["stages.0.0.unit1.norm.num_batches_tracked"] == 1


@pytest.mark.parametrize("is_training", [False, True], ids=["evaluation", "no_grad"])
def test_nothing_runs_twice_or_is_kept_where_no_gradient_is_wanted(is_training: bool) -> None:
    net, plain = network().train(is_training), network("bptt").train(is_training)
    runs = runs_of(net)
    with torch.no_grad():
        assert_equal(dict(enumerate(net(image()))), dict(enumerate(plain(image()))))
    assert runs == [B, T * B, T * B]
    assert_equal(net.state_dict(), plain.state_dict())
    if not is_training:
        runs.clear()
        net(image().requires_grad_()).sum().backward()
        assert runs == [B, T * B, T * B]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_runs_its_own_blocks(duplicate) -> None:
    net = network()
    expected = result_of_training(network())
    twin = duplicate(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    untouched = copy.deepcopy(net.state_dict())
    assert_equal(result_of_training(twin), expected)
    assert_equal(net.state_dict(), untouched)
    assert all(p.grad is None for p in net.parameters())
