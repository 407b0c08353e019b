"""The blocked kernels for a CPU against `functional`."""

import pytest
import torch

from model import functional, kernel, kernel_cpu
from model.functional import Neuron
from tests.support.kernel_case import (
    Case,
    backward_problems,
    cases,
    forward_problems,
    norm_problems,
    spike_problems,
)

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
CASES = list(cases(DTYPES))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks that do not divide the maps, so that the last one is smaller."""
    monkeypatch.setattr(kernel_cpu, "BLOCK_ELEMENTS", 64)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case, overwrite):
    for compact in (False, True):
        options = {"overwrite": overwrite, "compact": compact}
        assert forward_problems(case, kernel_cpu.norm_lif_rate, **options) == []
    assert spike_problems(case, kernel_cpu.lif_spikes) == []
    if case.normed:
        assert norm_problems(case, kernel_cpu.norm_rate, overwrite=overwrite) == []


@pytest.mark.parametrize("fires", [True, False])
@pytest.mark.parametrize("from_batch", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_backward(dtype, channels_last, from_batch, fires):
    case = Case("soft", channels_last=channels_last, dtype=dtype)
    options = {"from_batch": from_batch, "fires": fires}
    for wants_sum in (True, False):
        run = kernel_cpu.norm_lif_backward
        assert backward_problems(case, run, wants_sum=wants_sum, **options) == []


def test_without_neurons_no_time_step_reads_another():
    current = torch.zeros(2, 1, 3, 2, 2)
    current[0, 0, 1] = torch.inf
    ones, zeros = torch.ones(3), torch.zeros(3)
    for run in (kernel_cpu.norm_rate, functional.norm_rate):
        out, _ = run(current.clone(), ones, zeros, None)
        assert torch.equal(out, current)


def test_overwriting_reuses_the_memory_of_the_current():
    current = torch.randn(3, 2, 5, 4, 4)
    fired = kernel_cpu.norm_lif_rate(current, None, None, None, 3, Neuron(), overwrite=True)
    assert fired.spikes.data_ptr() == current.data_ptr()


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_accurate_for_a_large_mean(dtype):
    x = (torch.randn(6, 5, 7, 9) + 30).to(dtype)
    mean, variance = kernel.batch_statistics(x)
    expected_mean, expected_variance = functional.batch_statistics(x.double())
    assert mean.dtype == variance.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(mean.double(), expected_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(variance.double(), expected_variance, rtol=1e-4, atol=0)
