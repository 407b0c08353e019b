"""What a network refuses, in every way into it; and how one goes on from an activation."""

import copy

import pytest
import torch

from model import build_model
from model.inference.fold import fold
from model.rate_pair import RatePair
from model.spike_train import SpikeTrain

T, B = 3, 2


def tiny(method: str = "esd"):
    torch.manual_seed(0)
    return build_model("resnet19", num_classes=5, T=T, width=2, branch_pool=None, method=method)


IMAGE, FRAMES = (B, 3, 8, 8), (5, B, 3, 8, 8)
WRONG = [  # shape, dtype, T, message
    ((B, 3), torch.float32, None, r"expected images \(B, C, H, W\) or .*got shape \(2, 3\)"),
    ((B, 3, 8), torch.float32, None, r"expected images \(B, C, H, W\) or .*got shape \(2, 3, 8\)"),
    (IMAGE, torch.uint8, None, r"of floating-point numbers, got torch\.uint8"),
    ((B, 1, 8, 8), torch.float32, None, "expected 3 input channels, got 1"),
    ((5, B, 1, 8, 8), torch.float32, None, "expected 3 input channels, got 1"),
    (FRAMES, torch.float32, None, "expected frames of T = 3 time steps, got 5: say T=5 for an"),
    (FRAMES, torch.float32, 4, "expected frames of T = 4 time steps, got 5: say T=5 for another T"),
    (FRAMES, torch.float32, 2.5, "T must be a whole number >= 1, got 2.5"),
    (IMAGE, torch.float32, 2.5, "T must be a whole number >= 1, got 2.5"),
    (IMAGE, torch.float32, 0, "T must be a whole number >= 1, got 0"),
    (IMAGE, torch.float32, -1, "T must be a whole number >= 1, got -1"),
]


@pytest.mark.parametrize("method", ["esd", "bptt", "ottt"])
@pytest.mark.parametrize(("shape", "dtype", "steps", "message"), WRONG)
def test_every_way_into_a_network_is_guarded(method, shape, dtype, steps, message) -> None:
    net, x = tiny(method), torch.zeros(shape, dtype=dtype)
    ways = [net, net.head_logits]
    if net.method.online:
        ways.append(lambda x, T: next(net.method.own_pass.steps(net, x, T)))
    for way in ways:
        with pytest.raises(ValueError, match=message):
            way(x, T=steps)
    net.eval()
    for way in (net, net.head_logits, net.time_logits, net.all_logits, fold(net)):
        with pytest.raises(ValueError, match=message):
            way(x, T=steps)


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
