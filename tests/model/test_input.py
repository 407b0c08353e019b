"""What is no image of the network's is refused in one sentence."""

import pytest
import torch

from model import build_model
from model.fold import fold
from model.input import check_images

WRONG = [
    ((2, 3, 8), torch.float32, r"expected images \(B, C, H, W\) or .*got shape \(2, 3, 8\)"),
    ((2, 3, 8, 8), torch.uint8, r"of floating-point numbers, got torch\.uint8"),
    ((2, 1, 8, 8), torch.float32, "expected 3 input channels, got 1"),
    ((5, 2, 3, 8, 8), torch.float32, "expected frames of T = 4 time steps, got 5"),
]


@pytest.mark.parametrize(("shape", "dtype", "message"), WRONG)
def test_is_refused(shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        check_images(torch.zeros(shape, dtype=dtype), 3, 4)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (4, 2, 3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_is_taken(shape, dtype):
    check_images(torch.zeros(shape, dtype=dtype), 3, 4)


def test_where_no_frames_are_expected():
    check_images(torch.zeros(2, 3, 8, 8), 3)
    with pytest.raises(ValueError, match=r"expected images \(B, C, H, W\), got shape"):
        check_images(torch.zeros(4, 2, 3, 8, 8), 3)


@pytest.mark.parametrize("method", ["esd", "bptt", "ottt"])
@pytest.mark.parametrize("wrong", WRONG[1:])
def test_every_way_into_a_network_is_guarded(method, wrong):
    shape, dtype, message = wrong
    net = build_model("resnet18", num_classes=3, T=4, width=4, branch_pool=None, method=method)
    x = torch.zeros(shape, dtype=dtype)
    for way in (net, net.eval(), fold(net)):
        with pytest.raises(ValueError, match=message):
            way(x)
    if x.dim() == 4 and method == "ottt":
        with pytest.raises(ValueError, match=message):
            net.train()(x, {})
