"""Bytes outside convolutions, counted by hand for each kind of layer."""

from torch import nn

from benchmark.speed.census import Seen, layers_seen
from benchmark.speed.floor import ConvolutionFloor
from benchmark.speed.traffic import Traffic, traffic_of_layer
from benchmark.speed.workload import DTYPES, VARIANTS, Workload, build_network
from model.functional import Neuron
from model.layer import ConvNorm, ConvNormLIF, LIFLayer, MaxPool, Shortcut

FULL, FP16 = DTYPES["none"], DTYPES["fp16"]
MAP = (4, 5, 5)  # 100 values
FIRES = ConvNormLIF(4, 4, 3, neuron=Neuron())


def test_a_layer_that_fires_at_the_end_of_a_block():
    """T = 6: 6 maps read for statistics; 6 and 6 read, 6 written; mean, eligibility, counts."""
    layer = Seen(FIRES, MAP, MAP, steps=6, result_steps=6, residual_steps=6, reads_counts=True)
    firing = 100 * (4 * (6 + 6 + 6) + 4 + 4 + 1)
    backward = 100 * (2 * (4 + 4 + 4) + 4 + 4)
    assert traffic_of_layer(layer, FULL) == Traffic(100 * 6 * 4, firing, backward, 0, 0)
    firing = 100 * (2 * (6 + 6 + 6) + 2 + 2 + 1)
    backward = 100 * (2 * (4 + 2 + 2) + 2 + 4)
    assert traffic_of_layer(layer, FP16) == Traffic(100 * 6 * 2, firing, backward, 0, 0)


def test_a_stem_whose_current_is_its_own_mean():
    layer = Seen(FIRES, MAP, MAP, steps=1, result_steps=6)
    firing, backward = 100 * (4 * (1 + 6) + 4 + 1), 100 * (2 * (4 + 4 + 4) + 4)
    assert traffic_of_layer(layer, FULL) == Traffic(100 * 4, firing, backward, 0, 0)


def test_layers_without_neurons_neurons_alone_pooling_and_a_branch():
    def of(module: nn.Module, result=MAP, **steps: int) -> Traffic:
        return traffic_of_layer(Seen(module, MAP, result, **steps), FULL)

    over_time, backward = 100 * 6 * 4, 100 * (2 * (4 + 4) + 4)
    summed = of(ConvNorm(4, 4, 3), steps=6, residual_steps=1, result_steps=6)
    assert summed == Traffic(over_time, 100 * (4 * (6 + 1 + 6) + 4), backward, 0, 0)
    assert of(Shortcut(4, 4, 1), steps=6, result_steps=6) == Traffic(over_time, 0, backward, 0, 0)
    fired = of(LIFLayer(Neuron()), steps=1, result_steps=6)
    assert fired == Traffic(0, 100 * (4 * (1 + 6) + 4 + 1), 100 * (4 + 4 + 4), 0, 0)
    pooled = of(MaxPool(3, 2, 1), (4, 3, 3))
    assert pooled == Traffic(0, 4 * (100 + 36), 4 * (100 + 36), 0, 0)
    assert of(nn.BatchNorm2d(4)) == Traffic(0, 0, 0, 100 * 4 * (3 + 5), 0)


def test_a_step_moves_what_its_layers_move_for_every_sample_and_five_times_its_weights():
    workload = Workload("resnet18", 3, 7, True, 16, width=4)
    net = build_network(VARIANTS["one_pass"], workload)
    floor = ConvolutionFloor(net, workload, FP16)
    own = [traffic_of_layer(layer, FP16) for layer in layers_seen(net, workload)]
    weights = sum(p.numel() for p in net.parameters())
    assert floor.traffic.total == 7 * sum(map(sum, own)) + 5 * 4 * weights
    assert floor.roofline(2.0, 10.0) == 2.0 + floor.traffic.total / 10
