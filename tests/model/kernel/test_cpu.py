"""The blocked kernels for a CPU against the truth."""

import pytest
import torch

from benchmark.reference.kernel_case import Case, cases
from model import functional, kernel
from model.functional import Neuron
from model.kernel import Maps, Source, cpu, reference
from tests.support.kernel_problems import all_backward_problems, fire_problems

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
CASES = list(cases(DTYPES))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that do not divide the maps, so that the last one is smaller."""
    monkeypatch.setattr(cpu, "BLOCK_ELEMENTS", 64)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case):
    assert fire_problems(case, cpu.fire) == []


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_backward(dtype, channels_last):
    case = Case("soft", channels_last=channels_last, dtype=dtype)
    assert all_backward_problems(case, cpu.fire_backward) == []


def test_without_neurons_no_time_step_reads_another():
    current = torch.zeros(2, 1, 3, 2, 2)
    current[0, 0, 1] = torch.inf
    for run in (cpu.fire, reference.fire):
        source = Source(Maps(current.clone(), torch.ones(3), torch.zeros(3)))
        assert torch.equal(run(source, None, 2).train, current)


@pytest.mark.parametrize("neuron", [Neuron(), None])
def test_overwriting_reuses_the_memory_of_the_current(neuron):
    current = torch.randn(3, 2, 5, 4, 4)
    source = Source(Maps(current), reusable=True)
    assert cpu.fire(source, neuron, 3).train.data_ptr() == current.data_ptr()
    assert cpu.fire(source, neuron, 3, sums=False).train.data_ptr() == current.data_ptr()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(
    "neuron",
    [Neuron(0.3, 0.8), Neuron(0.3, 0.8, None, False), Neuron(0.3, 0.8, -0.1)],
    ids=str,
)
def test_eligibility_is_that_of_the_equations(neuron, steps):
    """To float64's rounding, whatever its memory held before."""
    x = torch.randn(steps, 7, 11, dtype=torch.float64)
    own = torch.full((7, 11), torch.nan, dtype=torch.float64)
    total = cpu.Eligibility(own, neuron, steps)
    u = torch.zeros(7, 11, dtype=torch.float64)
    for t in range(steps):
        v = neuron.decay * u + x[t]
        spikes = (v >= neuron.threshold).double()
        total.add(v, spikes, t)
        u = neuron.reset(v, spikes)
    expected = functional.lif_rate(x, *neuron)[2]
    torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_accurate_for_a_large_mean(dtype):
    x = (torch.randn(6, 5, 7, 9) + 30).to(dtype)
    mean, variance = kernel.batch_statistics(x)
    expected_mean, expected_variance = functional.batch_statistics(x.double())
    assert mean.dtype == variance.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), expected_variance, rtol=1e-4, atol=0)
