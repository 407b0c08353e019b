"""MS-ResNets equal spikingjelly's; their blocks begin as shortcuts."""

import pytest
import torch

from model import build_model
from model.spike_train import SpikeTrain
from tests.support.field import T, assert_equal_by_rates, assert_equal_through_time

B = 3
CASES = [
    ("ms_resnet18", "published", 65, False),
    ("ms_resnet34", "published", 70, True),
    ("ms_resnet18", "small", 17, True),
    ("ms_resnet34", "small", 18, False),
]


def images(side: int, *, frames: bool) -> torch.Tensor:
    shape = (B, 3, side, side + 3)
    return torch.randn((T, *shape) if frames else shape, dtype=torch.float64)


@pytest.mark.parametrize("arch, stem, side, frames", CASES)
def test_training_through_time_equals_spikingjelly(arch, stem, side, frames) -> None:
    torch.manual_seed(0)
    assert_equal_through_time(arch, images(side, frames=frames), stem=stem)


@pytest.mark.parametrize("arch, stem, side, frames", CASES)
def test_rate_based_training_equals_two_stages(arch, stem, side, frames) -> None:
    torch.manual_seed(0)
    assert_equal_by_rates(arch, images(side, frames=frames), stem=stem)


def test_a_block_begins_as_its_shortcut() -> None:
    net = build_model("ms_resnet18", num_classes=3, T=T, width=4, thresh=0.7, method="bptt")
    x = SpikeTrain(torch.randn(T * B, 4, 9, 9), T, False)
    first, second, *_ = net.stages[0]
    torch.testing.assert_close(first(x).maps, first.shortcut(x).maps)
    torch.testing.assert_close(second(x).maps, x.maps)
    assert (first.unit1.norm.weight == 0.7).all() and (net.stem.norm.weight == 0.7).all()
