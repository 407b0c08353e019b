"""Layers on plain trains and on pairs: both parts of a pair stay each other's time mean."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from model.functional import Neuron
from model.layer import (
    AveragePool,
    ConvNorm,
    ConvNormLIF,
    LIFLayer,
    Linear,
    MaxPool,
    average_pool,
)
from model.rate_pair import RatePair
from model.spike_train import SpikeTrain
from tests.support.activations import assert_mean, pair_of

T, B = 4, 3


def pair(*shape: int) -> RatePair:
    """Currents (T*B, *shape) and their mean."""
    return pair_of(torch.randn(T, B, *shape, dtype=torch.float64), T)


@pytest.mark.parametrize("kernel_size, stride", [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_conv_norm_keeps_rates_the_mean_of_trains(kernel_size: int, stride: int) -> None:
    layer = ConvNorm(5, 6, kernel_size, stride).double()
    residual = layer(pair(5, 9, 7))
    assert_mean(layer(pair(5, 9, 7), residual))


def test_conv_norm_lif_fires_and_keeps_rates_the_mean_of_trains() -> None:
    layer = ConvNormLIF(5, 6, 3, neuron=Neuron()).double()
    fired = layer(pair(5, 9, 7), pair(6, 9, 7))
    assert set(fired.train.unique().tolist()) == {0.0, 1.0}
    assert_mean(fired)


@pytest.mark.parametrize("layer", [Linear(5, 4).double(), LIFLayer(Neuron())])
def test_flat_layers_keep_rates_the_mean_of_trains(layer) -> None:
    assert_mean(layer(pair(5)))


def test_average_pool_keeps_rates_the_mean_of_trains() -> None:
    assert_mean(pair(5, 6, 7).map(average_pool))
    parts = pair(5, 10, 7).map(partial(average_pool, side=3))
    assert_mean(parts)
    assert parts.train.shape == (T * B, 5 * 3 * 3)
    halved = AveragePool(2)(pair(5, 9, 7))
    assert_mean(halved)
    assert halved.train.shape == (T * B, 5, 4, 3)


def test_pooling_to_parts_is_pooling_by_windows_where_they_fit() -> None:
    x = torch.randn(B, 5, 6, 6, dtype=torch.float64)
    windows = AveragePool(2)(SpikeTrain(x, T, True)).maps
    torch.testing.assert_close(average_pool(x, 3), windows.flatten(1))
    torch.testing.assert_close(average_pool(x), x.mean((-2, -1)))


def test_a_sum_of_spike_trains_counts_spikes() -> None:
    fire = LIFLayer(Neuron())
    x, y = fire(pair(5, 6, 7)), fire(pair(5, 6, 7))
    total = x.add(y).add(x)
    assert_mean(total)
    assert total.facts.max_count == 3
    assert set(total.train.unique().tolist()) == {0.0, 1.0, 2.0, 3.0}
    assert x.add(pair(5, 6, 7)).facts.max_count == 0


def test_max_pool_takes_the_maximum_of_the_mean() -> None:
    x = pair(5, 7, 8)
    pooled = MaxPool(3, 2, 1)(x)
    torch.testing.assert_close(pooled.rate, F.max_pool2d(x.rate, 3, 2, 1))
    torch.testing.assert_close(pooled.train, F.max_pool2d(x.train, 3, 2, 1))


def test_subsampling_is_what_a_strided_pointwise_convolution_reads() -> None:
    layer = ConvNorm(5, 6, 1, 2).double().eval()
    x = torch.randn(T * B, 5, 7, 8, dtype=torch.float64)
    expected = layer.norm(F.conv2d(x, layer.conv.weight, stride=2))
    torch.testing.assert_close(layer(SpikeTrain(x, T, False)).maps, expected)


def test_running_statistics_move_once_as_those_of_the_repeated_image() -> None:
    layer = ConvNormLIF(3, 4, 3, neuron=Neuron()).double()
    x = torch.randn(B, 3, 5, 6, dtype=torch.float64)
    layer(pair_of(x[None], T))
    norm = nn.BatchNorm2d(4).double()
    norm(F.conv2d(x.repeat(T, 1, 1, 1), layer.conv.weight, padding=1))
    torch.testing.assert_close(layer.norm.running_mean, norm.running_mean)
    torch.testing.assert_close(layer.norm.running_var, norm.running_var)
    assert layer.norm.num_batches_tracked == 1


def test_a_frozen_norm_uses_its_running_statistics_and_leaves_them() -> None:
    layer = ConvNorm(3, 4, 3).double()
    layer.norm.eval()
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 2)
    before = {name: value.clone() for name, value in layer.norm.named_buffers()}
    x = pair(3, 5, 6)
    plain = layer(SpikeTrain(x.train, T, False)).maps
    torch.testing.assert_close(layer(x).train, plain.detach())
    for name, value in layer.norm.named_buffers():
        assert torch.equal(value, before[name])


def test_one_value_per_channel_cannot_be_normalised() -> None:
    with pytest.raises(ValueError, match="more than one value per channel"):
        ConvNorm(3, 4, 1)(pair_of(torch.randn(1, 1, 3, 1, 1), 1))
