"""Layers on pairs keep rates the time mean of trains; pooling to parts."""

import pytest
import torch

from model.functional import Neuron
from model.layer import AveragePool, ConvNorm, ConvNormLIF, LIFLayer, Linear, average_pool
from model.spike_train import SpikeTrain
from tests.support.activations import assert_mean, pair_of

T, B = 4, 3
LAYERS = [
    (ConvNorm(5, 6, 1, bias=True), (5, 9, 7)),
    (ConvNorm(5, 6, 1, 2), (5, 9, 7)),
    (ConvNorm(5, 6, 3), (5, 9, 7)),
    (ConvNorm(5, 6, 3, 2), (5, 9, 7)),
    (ConvNorm(5, 6, 7, 2), (5, 9, 7)),
    (ConvNormLIF(5, 6, 3, 2, neuron=Neuron()), (5, 9, 7)),
    (LIFLayer(Neuron()), (5, 9, 7)),
    (AveragePool(2), (5, 9, 7)),
    (Linear(5, 4), (5,)),
]


@pytest.mark.parametrize("steps", [1, T])
@pytest.mark.parametrize(("layer", "size"), LAYERS, ids=str)
def test_rates_stay_the_mean_of_trains(layer, size, steps) -> None:
    """Of currents that are constant in time or not, with a residual or without."""
    x = pair_of(torch.randn(steps, B, *size, dtype=torch.float64), T)
    outs = [layer.double()(x)]
    if isinstance(layer, ConvNorm):
        outs.append(layer(x, outs[0]))
    for out in outs:
        assert_mean(out)
        if hasattr(layer, "neuron"):
            assert set(out.train.unique().tolist()) == {0.0, 1.0}


def test_pooling_to_parts_is_pooling_by_windows_where_they_fit() -> None:
    x = torch.randn(B, 5, 6, 6, dtype=torch.float64)
    windows = AveragePool(2)(SpikeTrain(x, T, True)).maps
    torch.testing.assert_close(average_pool(x, 3), windows.flatten(1))
    torch.testing.assert_close(average_pool(x), x.mean((-2, -1)))
    assert average_pool(torch.randn(B, 5, 10, 7), 3).shape == (B, 5 * 3 * 3)
