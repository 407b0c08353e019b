"""VGG-11 and VGGSNN equal the same tables on spikingjelly's layers."""

import pytest
import torch

from model import MODELS, build_model
from model.registry import Architecture
from model.zoo.vgg import VGG
from tests.support.field import T, assert_equal_by_rates, assert_equal_through_time

B = 3
CASES = [("vgg11", 17, False), ("vgg11", 19, True), ("vggsnn", 48, False), ("vggsnn", 48, True)]


def images(side: int, *, frames: bool) -> torch.Tensor:
    shape = (B, 3, side, side)
    return torch.randn((T, *shape) if frames else shape, dtype=torch.float64)


@pytest.mark.parametrize("arch, side, frames", CASES)
def test_training_through_time_equals_spikingjelly(arch, side, frames) -> None:
    torch.manual_seed(0)
    assert_equal_through_time(arch, images(side, frames=frames))


@pytest.mark.parametrize("arch, side, frames", CASES)
def test_rate_based_training_equals_two_stages(arch, side, frames) -> None:
    torch.manual_seed(0)
    assert_equal_by_rates(arch, images(side, frames=frames))


@pytest.mark.parametrize("arch", ["vgg11", "vggsnn"])
def test_channels_follow_the_published_table(arch) -> None:
    net = build_model(arch, num_classes=10, T=2)
    channels = [layer.conv.out_channels for _, layer in net.spiking_layers()]
    assert channels == [64, 128, 256, 256, 512, 512, 512, 512]


def test_another_table_is_another_network(monkeypatch) -> None:
    options = {"pooled": 1, "table": ((1,), (2, 3))}
    monkeypatch.setitem(MODELS, "vgg3", Architecture(VGG, 64, options))
    net = build_model("vgg3", num_classes=10, T=2, width=4)
    assert [layer.conv.out_channels for _, layer in net.spiking_layers()] == [4, 8, 12]
    assert [z.shape for z in net(torch.randn(2, 3, 8, 8))] == [(2, 10)] * 2
