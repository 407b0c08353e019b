"""`method="bptt"` is backpropagation through time: equal to spikingjelly's, within rounding.

The same ResNet-18 on spikingjelly's multi-step LIFNode, in float64: logits, the gradient of every
parameter, running statistics, inference.
"""

import pytest
import torch
import torch.nn.functional as F

from model import build_model
from tests.support.observe import reference_names
from tests.support.spiking_network import SpikingResNet18
from util.checkpoint import from_reference

RESETS = {
    "soft-detached": (None, True),
    "soft": (None, False),
    "hard-detached": (0.0, True),
    "hard": (0.0, False),
}
CLASSES, WIDTH = 7, 6


@pytest.mark.parametrize("frames", [False, True], ids=["image", "frames"])
@pytest.mark.parametrize("T", [1, 3, 5])
@pytest.mark.parametrize("reset", RESETS)
def test_training_step_equals_spikingjelly(reset, T, frames):
    ours, theirs, x = networks(reset, T, frames)
    labels = torch.arange(x.shape[-4]) % CLASSES
    shown = x if frames else x.expand(T, *x.shape)

    (logits,) = ours(x)
    (F.cross_entropy(logits, labels) / T).backward()
    wanted = theirs(shown).mean(0)
    (F.cross_entropy(wanted, labels) / T).backward()

    assert_close(logits, wanted)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    names = reference_names(gradients)
    assert {names[name] for name, _ in ours.named_parameters()} == set(gradients)
    for name, parameter in ours.named_parameters():
        assert parameter.grad.norm() > 0, name
        assert_close(parameter.grad, gradients[names[name]])
    for key, value in from_reference(theirs.state_dict()).items():
        assert_close(ours.state_dict()[key], value)


@pytest.mark.parametrize("reset", RESETS)
def test_inference_equals_spikingjelly_at_every_time_step(reset):
    ours, theirs, x = networks(reset, 4, frames=True)
    with torch.no_grad():
        ours(x), theirs(x)  # moves the running statistics
        wanted = theirs.eval()(x)
        assert wanted.abs().max() > 0
        assert_close(ours.eval().time_logits(x), wanted)
        assert_close(ours(x), wanted.mean(0))


def networks(reset: str, T: int, frames: bool):
    """The same seeded weights in both implementations, and an input for them."""
    v_reset, detach_reset = RESETS[reset]
    options = {
        "num_classes": CLASSES,
        "in_channels": 2,
        "width": WIDTH,
        "decay": 0.3,
        "thresh": 0.8,
        "v_reset": v_reset,
        "detach_reset": detach_reset,
    }
    torch.manual_seed(10 * T + frames)
    theirs = SpikingResNet18(**options).double()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(0.2 * torch.randn_like(parameter) + name.endswith("weight"))
    ours = build_model("resnet18", T=T, method="bptt", **options).double()
    ours.load_state_dict(from_reference(theirs.state_dict()))
    shape = (3, 2, 17, 13)
    return ours, theirs, torch.randn((T, *shape) if frames else shape, dtype=torch.float64)


def assert_close(actual, expected):
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10 * scale)
