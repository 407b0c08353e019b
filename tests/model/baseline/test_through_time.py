"""`method="bptt"` is backpropagation through time: equal to spikingjelly's, within rounding.

The same ResNet-18 on spikingjelly's multi-step LIFNode, in float64: logits, the gradient of every
parameter, running statistics, inference at every time step.
"""

import pytest
import torch

from tests.support.field import assert_equal_through_time

RESETS = {
    "soft-detached": (None, True),
    "soft": (None, False),
    "hard-detached": (0.0, True),
    "hard": (0.0, False),
}


@pytest.mark.parametrize("frames", [False, True], ids=["image", "frames"])
@pytest.mark.parametrize("T", [1, 3, 5])
@pytest.mark.parametrize("reset", RESETS)
def test_equals_spikingjelly(reset, T, frames):
    v_reset, detach_reset = RESETS[reset]
    torch.manual_seed(10 * T + frames)
    x = torch.randn((T, 3, 3, 17, 13) if frames else (3, 3, 17, 13), dtype=torch.float64)
    neurons = {"v_reset": v_reset, "detach_reset": detach_reset}
    assert_equal_through_time("resnet18", x, T=T, width=6, **neurons)
