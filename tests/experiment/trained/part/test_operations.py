"""Operations and energy against counts by hand and by loops."""

import pytest
import torch
from torch import nn

from experiment.trained.part.operations import E_AC, count_operations, mean_operations
from model import build_model
from model.functional import Neuron
from model.inference.fold import fold
from model.inference.folded import FoldedNetwork, Neurons, observed
from tests.support.trained_run import stir

T = 3


def two_layers() -> FoldedNetwork:
    """A 3x3 convolution of one channel to two on 3x3 pixels, neurons, a linear layer of two to two.

    Every neuron gets a current of twice the threshold at each step, so every one fires always.
    """
    conv = nn.Conv2d(1, 2, 3, padding=1)
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        conv.weight.fill_(0.01)  # not 0 or 1, which the counters would take for spikes
        conv.bias.fill_(2.0)
    stem = nn.Sequential()
    stem.add_module("conv", conv)
    return FoldedNetwork(
        stem,
        Neurons("stem", Neuron(decay=0.0)),
        nn.ModuleList(),
        nn.ModuleList([Neurons("classifier.0", Neuron(decay=0.0, threshold=0.9)), linear]),
        in_channels=1,
        T=T,
    ).eval()


def test_energy_of_a_two_layer_network_is_that_counted_by_hand():
    net = two_layers()
    operations = count_operations(net, torch.full((2, 1, 3, 3), 0.7))
    # The image is no spike train: 9 pixels x 2 channels x 9 weights, once for all steps. After it
    # 18 neurons fire at all 3 steps; their mean is 1 in both channels, so the two
    # neurons behind fire as well: 2 spikes x 2 weights x 3 steps.
    stem, linear = operations.layers
    assert (stem.name, stem.macs, stem.acs, stem.ann_macs) == ("stem.conv", 162, 0, 162)
    assert (linear.name, linear.macs, linear.acs, linear.ann_macs) == ("classifier.1", 0, 12, 4)
    # Beside: each of 18 + 2 neurons adds its input at steps 2 and 3 and subtracts the threshold at
    # each of 3 steps; the mean of 9 pixels is 8 additions, of 2 channels at 3 steps.
    assert operations.other_acs == 20 * (2 + 3) + 8 * 2 * 3
    assert operations.ann_other_acs == 8 * 2
    assert operations.energy == pytest.approx(162 * 4.6 + (12 + 148) * 0.9)
    assert operations.simple_energy == pytest.approx(operations.energy)
    assert operations.ann_energy == pytest.approx((162 + 4) * 4.6 + 16 * 0.9)
    assert operations.firing_rates == {"stem": 1.0, "classifier.0": 1.0}


def resnet(in_channels=2, width=3) -> FoldedNetwork:
    torch.manual_seed(0)
    options = {"num_classes": 5, "in_channels": in_channels, "T": T, "width": width}
    return fold(stir(build_model("resnet18", **options)).eval())


def test_synops_of_a_resnet_are_spikes_times_the_weights_that_they_reach():
    net = resnet()
    x = torch.randn(2, 2, 13, 13)
    operations = {layer.name: layer for layer in count_operations(net, x).layers}
    trains = {}
    net(x, observed(lambda n, current, spikes: trains.update({n.label: spikes.flatten(0, 1)})))
    for name, source, conv in (
        ("stages.0.0.unit1", "stem", net.stages[0][0].unit1),
        ("stages.1.0.unit1", "stages.0.1.unit2", net.stages[1][0].unit1),
        ("stages.1.0.shortcut", "stages.0.1.unit2", net.stages[1][0].shortcut),
    ):
        ones = nn.functional.conv2d(
            trains[source], torch.ones_like(conv.weight), None, conv.stride, conv.padding
        )
        assert operations[name].acs == ones.sum().item() / 2
        assert operations[name].macs == 0
        pixels = ones.shape[-1] * ones.shape[-2]
        assert operations[name].ann_macs == conv.weight.numel() * pixels


def test_spikingjellys_estimate_of_convolutions_has_the_sums_of_its_memory_counter_beside():
    net = resnet()
    operations = count_operations(net, torch.randn(1, 2, 13, 13))
    # It sums the T maps of one channel per convolution that reads spikes, to count weight reads;
    # n numbers take n - 1 additions, and there are 16 + 3 such convolutions.
    side, sums = 13, 0
    for stage in range(4):
        after = side if stage == 0 else -(-side // 2)
        sums += 4 * after**2 + (stage > 0) * after**2
        side = after
    surplus = operations.simple_energy - operations.energy
    assert surplus == pytest.approx(E_AC * (T * sums - (16 + 3)), abs=E_AC * 1e-3)


def test_frames_that_are_not_spikes_cost_macs_at_every_step():
    net = resnet()
    image = torch.randn(1, 2, 13, 13)
    static = count_operations(net, image).layers[0]
    frames = count_operations(net, image.expand(T, -1, -1, -1, -1)).layers[0]
    assert frames.macs == T * static.macs
    assert frames.ann_macs == static.ann_macs
    binary = count_operations(net, (torch.rand(T, 1, 2, 13, 13) < 0.2).float()).layers[0]
    assert binary.macs == 0 and binary.acs > 0


def test_mean_over_batches_weights_each_image_alike():
    net = resnet(in_channels=1, width=2)
    x = torch.randn(3, 1, 11, 11)
    parts = [count_operations(net, part) for part in (x[:1], x[1:])]
    mean, whole = mean_operations(parts, [1, 2]), count_operations(net, x)
    assert mean.energy == pytest.approx(whole.energy)
    assert mean.ann_energy == pytest.approx(whole.ann_energy)
    assert mean.firing_rates == pytest.approx(whole.firing_rates)
    assert [layer.acs for layer in mean.layers] == pytest.approx([x.acs for x in whole.layers])
