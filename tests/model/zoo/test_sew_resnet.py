"""SEW-ResNets equal spikingjelly's; their blocks count spikes."""

import pytest
import torch

from model import build_model
from model.functional import Neuron
from model.layer import LIFLayer
from model.zoo.sew_resnet import SEWBlock
from tests.support.activations import assert_mean, pair_of
from tests.support.field import T, assert_equal_by_rates, assert_equal_through_time

B = 2


def images(side: int, *, frames: bool) -> torch.Tensor:
    shape = (B, 3, side, side + 3)
    return torch.randn((T, *shape) if frames else shape, dtype=torch.float64)


CASES = [
    ("sew_resnet18", "published", 45, False),
    ("sew_resnet34", "published", 37, True),
    ("sew_resnet18", "small", 13, True),
]


@pytest.mark.parametrize("arch, stem, side, frames", CASES)
def test_training_through_time_equals_spikingjelly(arch, stem, side, frames) -> None:
    torch.manual_seed(0)
    assert_equal_through_time(arch, images(side, frames=frames), stem=stem, width=64)


@pytest.mark.parametrize("arch, stem, side, frames", CASES)
def test_rate_based_training_equals_two_stages(arch, stem, side, frames) -> None:
    torch.manual_seed(0)
    assert_equal_by_rates(arch, images(side, frames=frames), stem=stem, width=64)


def test_a_block_counts_its_spikes_and_keeps_its_input_in_bytes() -> None:
    torch.manual_seed(0)
    neuron = Neuron(threshold=0.5)
    x = LIFLayer(neuron)(pair_of(torch.randn(T, B, 4, 6, 5).abs(), T))
    blocks = [SEWBlock(4, 4, 1, neuron=neuron) for _ in range(2)]
    out = blocks[1](blocks[0](x))
    assert out.facts.max_count == 3
    assert out.train.max() == 3
    assert_mean(out)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        blocks[0](blocks[1](out))
    assert sum(t.dtype == torch.uint8 and t.shape == out.rate.shape for t in kept) == 4


def test_the_first_block_of_a_later_stage_fires_in_its_shortcut() -> None:
    net = build_model("sew_resnet18", num_classes=3, T=2, width=2)
    names = [name for name, _ in net.spiking_layers()]
    assert "stages.1.0.shortcut" in names
    assert len(names) == 1 + 16 + 3
