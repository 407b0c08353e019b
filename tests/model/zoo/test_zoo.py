"""The field's networks equal spikingjelly's, trained through time and by rates; their blocks."""

import pytest
import torch

from model import MODELS, build_model
from model.functional import Neuron
from model.layer import LIFLayer
from model.registry import Architecture
from model.spike_train import SpikeTrain
from model.zoo.sew_resnet import SEWBlock
from model.zoo.vgg import VGG
from tests.support.activations import assert_mean, pair_of
from tests.support.field import T, assert_equal_by_rates, assert_equal_through_time

CASES = [  # arch, stem, width, batch, height, width of the image, frames
    ("vgg11", "published", 4, 3, 17, 17, False),
    ("vgg11", "published", 4, 3, 19, 19, True),
    ("vggsnn", "published", 4, 3, 48, 48, False),
    ("vggsnn", "published", 4, 3, 48, 48, True),
    ("sew_resnet18", "published", 64, 2, 45, 48, False),
    ("sew_resnet34", "published", 64, 2, 37, 40, True),
    ("sew_resnet18", "small", 64, 2, 13, 16, True),
    ("ms_resnet18", "published", 4, 3, 65, 68, False),
    ("ms_resnet34", "published", 4, 3, 70, 73, True),
    ("ms_resnet18", "small", 4, 3, 17, 20, True),
    ("ms_resnet34", "small", 4, 3, 18, 21, False),
]


@pytest.mark.parametrize("equal", [assert_equal_through_time, assert_equal_by_rates])
@pytest.mark.parametrize(("arch", "stem", "width", "B", "H", "W", "frames"), CASES)
def test_training_and_inference_equal_spikingjelly(equal, arch, stem, width, B, H, W, frames):
    """Through time its own; by rates two stages over its structures."""
    torch.manual_seed(0)
    shape = (T, B, 3, H, W) if frames else (B, 3, H, W)
    equal(arch, torch.randn(shape, dtype=torch.float64), stem=stem, width=width)


@pytest.mark.parametrize("arch", ["vgg11", "vggsnn"])
def test_channels_of_a_vgg_follow_the_published_table(arch) -> None:
    net = build_model(arch, num_classes=10, T=2)
    channels = [layer.conv.out_channels for _, layer in net.spiking_layers()]
    assert channels == [64, 128, 256, 256, 512, 512, 512, 512]


def test_another_table_is_another_vgg(monkeypatch) -> None:
    options = {"pooled": 1, "table": ((1,), (2, 3))}
    monkeypatch.setitem(MODELS, "vgg3", Architecture(VGG, 64, options))
    net = build_model("vgg3", num_classes=10, T=2, width=4)
    assert [layer.conv.out_channels for _, layer in net.spiking_layers()] == [4, 8, 12]
    assert [z.shape for z in net(torch.randn(2, 3, 8, 8))] == [(2, 10)] * 2


def test_a_sew_block_counts_its_spikes_and_keeps_its_input_in_bytes() -> None:
    torch.manual_seed(0)
    neuron = Neuron(threshold=0.5)
    x = LIFLayer(neuron)(pair_of(torch.randn(T, 2, 4, 6, 5).abs(), T))
    blocks = [SEWBlock(4, 4, 1, neuron=neuron) for _ in range(2)]
    out = blocks[1](blocks[0](x))
    assert out.facts.max_count == 3
    assert out.train.max() == 3
    assert_mean(out)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        blocks[0](blocks[1](out))
    assert sum(t.dtype == torch.uint8 and t.shape == out.rate.shape for t in kept) == 4


def test_an_ms_block_begins_as_its_shortcut() -> None:
    net = build_model("ms_resnet18", num_classes=3, T=T, width=4, thresh=0.7, method="bptt")
    x = SpikeTrain(torch.randn(T * 3, 4, 9, 9), T, False)
    first, second, *_ = net.stages[0]
    torch.testing.assert_close(first(x).maps, first.shortcut(x).maps)
    torch.testing.assert_close(second(x).maps, x.maps)
    assert (first.unit1.norm.weight == 0.7).all() and (net.stem.norm.weight == 0.7).all()
