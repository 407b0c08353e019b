"""What a network takes and returns."""

import copy

import pytest
import torch

from model import METHODS, MODELS, build_model
from model.abc_model import check_input
from model.inference.fold import fold
from model.rate_pair import RatePair
from model.spike_train import SpikeTrain

SIZES = {arch: 64 if row.large_stem else 32 for arch, row in MODELS.items()} | {"resnet19": 12}
T, B, K = 3, 2, 5


def tiny(arch: str = "resnet19", method: str = "esd", **arguments):
    torch.manual_seed(0)
    arguments = {"num_classes": K, "T": T, "width": 2, "branch_pool": None, **arguments}
    return build_model(arch, method=method, **arguments)


@pytest.mark.parametrize("frames", [False, True], ids=["image", "frames"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arch", MODELS)
def test_shapes_of_every_mode(arch: str, method: str, frames: bool) -> None:
    net = tiny(arch, method)
    shape = (B, 3, SIZES[arch], SIZES[arch])
    x = torch.randn(T, *shape) if frames else torch.randn(shape)
    heads = net(x)
    assert [tuple(z.shape) for z in heads] == [(B, K)] * (len(net.branches) + 1)
    assert all(z.requires_grad for z in heads)
    net.eval()
    with torch.no_grad():
        assert net(x).shape == (B, K)
        assert net.time_logits(x).shape == (T, B, K)


def test_evaluation_is_the_mean_over_time_and_the_last_head() -> None:
    net = tiny().double().eval()
    x = torch.randn(B, 3, 12, 12, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net.time_logits(x).mean(0))
        torch.testing.assert_close(net(x), net.head_logits(x)[-1])


def test_an_image_is_the_same_as_its_frames() -> None:
    x = torch.randn(B, 3, 12, 12, dtype=torch.float64)
    constant, moving = tiny().double(), tiny().double()
    for ours, theirs in zip(constant(x), moving(x.repeat(T, 1, 1, 1, 1)), strict=True):
        torch.testing.assert_close(ours, theirs)
    for (name, ours), theirs in zip(constant.named_buffers(), moving.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_forward_leaves_the_input_alone() -> None:
    x = torch.randn(B, 3, 12, 12)
    before = x.clone()
    tiny()(x)
    assert torch.equal(x, before)


def test_spiking_layers_fire_zeros_and_ones() -> None:
    net = tiny()
    trains: dict[str, torch.Tensor] = {}
    for name, layer in net.spiking_layers():
        layer.register_forward_hook(
            lambda m, i, spikes, name=name: trains.update({name: spikes.over_time()})
        )
    for mode in (True, False):
        trains.clear()
        with torch.no_grad():
            net.train(mode)(torch.randn(B, 3, 12, 12))
        assert len(trains) == 18  # of ResNet-19, tests/golden/FORMULAS.md
        assert all(set(train.unique().tolist()) <= {0.0, 1.0} for train in trains.values())
        assert all(train.shape[:2] == (T, B) for train in trains.values())


WRONG = [
    ((B, 3), torch.float32, r"expected images \(B, C, H, W\) or .*got shape \(2, 3\)"),
    ((B, 3, 8), torch.float32, r"expected images \(B, C, H, W\) or .*got shape \(2, 3, 8\)"),
    ((B, 3, 8, 8), torch.uint8, r"of floating-point numbers, got torch\.uint8"),
    ((B, 1, 8, 8), torch.float32, "expected 3 input channels, got 1"),
    ((5, B, 1, 8, 8), torch.float32, "expected 3 input channels, got 1"),
    ((5, B, 3, 8, 8), torch.float32, "expected frames of T = 3 time steps, got 5"),
]


@pytest.mark.parametrize(("shape", "dtype", "message"), WRONG)
def test_what_is_no_image_is_refused_in_one_sentence(shape, dtype, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_input(torch.zeros(shape, dtype=dtype), 3, T)


@pytest.mark.parametrize("shape", [(B, 3, 8, 8), (T, B, 3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_and_frames_are_taken(shape, dtype) -> None:
    check_input(torch.zeros(shape, dtype=dtype), 3, T)


def test_frames_are_refused_where_none_are_expected() -> None:
    check_input(torch.zeros(B, 3, 8, 8), 3)
    with pytest.raises(ValueError, match=r"expected images \(B, C, H, W\), got shape"):
        check_input(torch.zeros(T, B, 3, 8, 8), 3)


@pytest.mark.parametrize("method", ["esd", "bptt", "ottt"])
@pytest.mark.parametrize(("shape", "dtype", "message"), WRONG)
def test_every_way_into_a_network_is_guarded(method, shape, dtype, message) -> None:
    net, x = tiny(method=method), torch.zeros(shape, dtype=dtype)
    ways = [net, net.head_logits]
    if net.method.online:
        ways.append(lambda x: next(net.method.own_pass.steps(net, x)))
    for way in ways:
        with pytest.raises(ValueError, match=message):
            way(x)
    net.eval()
    for way in (net, net.head_logits, net.time_logits, net.all_logits, fold(net)):
        with pytest.raises(ValueError, match=message):
            way(x)


def test_what_belongs_to_eval_mode_is_refused_in_training() -> None:
    net, x = tiny(), torch.randn(B, 3, 12, 12)
    for logits in (net.time_logits, net.all_logits):
        with pytest.raises(ValueError, match="belong to eval mode"):
            logits(x)


def test_a_network_goes_on_from_an_activation() -> None:
    """One that another part has begun, with the time steps that it was begun for."""
    net, x = tiny().double(), torch.randn(B, 3, 12, 12, dtype=torch.float64)
    twin = copy.deepcopy(net)
    for own, expected in zip(net(RatePair.start(x, 5, net)), twin(x, T=5), strict=True):
        assert own.equal(expected)
    with pytest.raises(ValueError, match="an activation has its own time steps: leave T out"):
        net(RatePair.start(x, 5, net), T=5)
    net.eval()
    assert net.time_logits(SpikeTrain.start(x, 5, net)).equal(net.time_logits(x, T=5))
