"""The eligibility that is filled in step by step equals that of `functional.lif_rate`."""

import pytest
import torch

from model import functional
from model.functional import SURROGATE_SLOPE, Neuron
from model.kernel_cpu_eligibility import MapSensitivity, ScalarSensitivity, eligibility_sum

NEURONS = {
    Neuron(0.3, 0.8): ScalarSensitivity,
    Neuron(0.3, 0.8, None, False): MapSensitivity,
    Neuron(0.3, 0.8, -0.1): MapSensitivity,
}


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_equals_that_of_the_equations(neuron, steps):
    x = torch.randn(steps, 7, 11, dtype=torch.float64)
    own = torch.full((7, 11), torch.nan, dtype=torch.float64)
    total = eligibility_sum(own, neuron, steps)
    assert type(total) is NEURONS[neuron]
    u = torch.zeros(7, 11, dtype=torch.float64)
    for t in range(steps):
        v = neuron.decay * u + x[t]
        spikes = (v >= neuron.threshold).double()
        total.add(v, (SURROGATE_SLOPE * (v - neuron.threshold)).sigmoid() - 0.5, spikes, t)
        u = functional.reset(v, spikes, neuron.threshold, neuron.v_reset)
    expected = functional.lif_rate(x, *neuron)[2]
    torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-14)
