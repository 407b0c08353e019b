"""Convolutions of numbers, spikes and counts are one function; its gradient is autograd's."""

import pytest
import torch
import torch.nn.functional as F

from model import spike_convolution
from model.convolution import Convolution, convolution_backward, convolve

GEOMETRIES = [((1, 1), (1, 1), (1, 1), 1), ((2, 1), (0, 2), (1, 1), 1), ((1, 1), (2, 2), (2, 2), 2)]


@pytest.fixture(params=GEOMETRIES, ids=str)
def case(request):
    """Spikes (N, Ci, H, W) as bytes and a convolution of them, odd sizes, float64."""
    generator = torch.Generator().manual_seed(1)
    groups = request.param[3]
    spikes = (torch.rand(3, 4, 7, 9, generator=generator) < 0.3).to(torch.uint8)
    weight = torch.randn(6, 4 // groups, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(6, generator=generator, dtype=torch.float64)
    return spikes, Convolution(weight, bias, *request.param)


def test_bytes_convolve_like_numbers(case):
    """Counts, and spikes with and without the operator that skips."""
    spikes, convolution = case
    expected = F.conv2d(spikes.double(), *convolution)
    for are_spikes in (False, True):
        torch.testing.assert_close(convolve(spikes, convolution, are_spikes=are_spikes), expected)
    counts = 3 * spikes
    expected = F.conv2d(counts.double(), *convolution)
    torch.testing.assert_close(convolve(counts, convolution), expected)


def test_only_spikes_skip(case, monkeypatch):
    """Counts and numbers do not, whether or not they could."""
    spikes, convolution = case
    calls = []
    monkeypatch.setattr(spike_convolution, "can_skip", lambda *arguments: True)
    monkeypatch.setattr(spike_convolution, "convolve", lambda *a: calls.append(a))
    convolve(spikes.double(), convolution, are_spikes=True)
    convolve(spikes, convolution)
    assert calls == []
    convolve(spikes, convolution, are_spikes=True)
    assert len(calls) == 1


@pytest.mark.parametrize("needs", [(True, True, True), (False, True, False), (True, False, True)])
def test_gradients_are_those_of_autograd(case, needs):
    spikes, convolution = case
    inputs = (spikes.double(), *convolution[:2])
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = F.conv2d(*inputs, *convolution[2:])
    grad = torch.randn_like(out)
    own = convolution_backward(grad, *inputs[:2], convolution[2:], needs)
    for gradient, needed, expected in zip(
        own, needs, torch.autograd.grad(out, inputs, grad), strict=True
    ):
        if needed:
            torch.testing.assert_close(gradient, expected)
        else:
            assert gradient is None
