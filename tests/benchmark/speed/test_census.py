"""Which layers a step is seen to pass: their sizes, and what varies in time."""

import pytest
import torch

from benchmark.speed.census import layers_seen
from benchmark.speed.workload import VARIANTS, Workload, build_network
from model import MODELS
from model.layer import ConvNorm, ConvNormLIF, Shortcut


def seen(arch: str, T: int = 5, size: int = 32):
    workload = Workload(arch, T, 8, True, size, width=4)
    net = build_network(VARIANTS["one_pass"], workload)
    return net, layers_seen(net, workload)


@pytest.mark.parametrize("arch", MODELS)
def test_every_convolution_is_seen_once_on_the_map_that_it_makes(arch):
    net, layers = seen(arch)
    convolutions = [own.convolution for own in layers if own.convolution is not None]
    expected = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == len(set(convolutions)) and set(convolutions) == set(expected)
    for own in layers:
        if own.convolution is not None:
            assert own.convolution(torch.zeros(1, *own.source)).shape[1:] == own.result


def test_what_is_constant_in_time_and_what_is_added():
    _, layers = seen("resnet18")
    stem, first, second = (own for own in layers[:3])
    assert (stem.steps, stem.result_steps, stem.residual_steps) == (1, 5, 0)
    assert not stem.reads_counts and first.reads_counts
    assert (first.steps, first.result_steps, first.residual_steps) == (5, 5, 0)
    assert (second.steps, second.residual_steps) == (5, 5), "the block's own input"
    branches = [own for own in layers if own.in_branch]
    assert branches and all(own.steps == 1 and not own.reads_counts for own in branches)
    assert sum(isinstance(own.module, Shortcut) for own in layers) == 3


def test_the_pooled_current_of_a_large_stem_is_constant_until_neurons_fire():
    _, layers = seen("preact_resnet34", size=64)
    pool, stem, fire, unit1, unit2 = layers[:5]
    assert (pool.source, pool.result, pool.steps) == ((4, 32, 32), (4, 16, 16), 1)
    assert (stem.result, stem.steps, stem.result_steps) == ((4, 32, 32), 1, 1)
    assert (fire.steps, fire.result_steps) == (1, 5)
    assert isinstance(unit1.module, ConvNormLIF) and unit1.reads_counts
    assert type(unit2.module) is ConvNorm and (unit2.steps, unit2.residual_steps) == (5, 1)


def test_looking_leaves_running_statistics_alone():
    workload = Workload("resnet18", 1, 8, True, 16, width=4)
    net = build_network(VARIANTS["one_pass"], workload)
    before = [buffer.clone() for buffer in net.buffers()]
    assert {own.steps for own in layers_seen(net, workload)} == {1}
    assert all(map(torch.equal, before, net.buffers()))
