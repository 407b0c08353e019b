"""Convolutions of numbers, spikes and counts are one function; its gradient is autograd's."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from model import build_model, functional, kernel, spike_convolution
from model.branch import DeepConv
from model.convolution import Conv2d, Convolution, convolution_backward, convolve, subsample
from model.functional import Neuron
from model.layer import ConvNormLIF, Shortcut
from model.online import OnlineStep
from model.rate_pair import RatePair

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


T, B, C = 3, 2, 16  # with fewer channels than 16 the strided way may crash on a CPU


def test_a_strided_pointwise_convolution_is_unstrided_on_a_cpu_alone():
    conv = Conv2d(C, 5, 1, 2)
    steps, convolution = Convolution.of(conv).unstrided()
    assert (steps, convolution.stride) == ((2, 2), (1, 1))
    x = torch.randn(B, C, 7, 8)
    torch.testing.assert_close(F.conv2d(subsample(x, steps), *convolution), conv(x))
    for other in (conv.to("meta"), Conv2d(C, 5, 3, 2), Conv2d(C, 5, 1), Conv2d(C, 5, 1, 2, 1)):
        convolution = Convolution.of(other)
        assert convolution.unstrided() == ((1, 1), convolution)


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 1, "stride": (2, 1)},
        {"kernel_size": 1, "stride": (1, 3)},
        {"kernel_size": 1, "stride": 2, "padding": 1},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_a_convolution_is_torchs(options):
    conv = Conv2d(C, 5, **options)
    x = torch.randn(B, C, 7, 8)
    torch.testing.assert_close(conv(x), nn.Conv2d.forward(conv, x))


def pair(x):
    """A rate and its train, whose values are outside the graph."""
    train = x.detach() + torch.tensor([-0.5, 0.0, 0.5]).view(T, 1, 1, 1, 1)
    return RatePair(train.flatten(0, 1), x)


STRIDED = {
    "pair": (lambda: ConvNormLIF(C, 5, 1, 2, steps=T, neuron=Neuron()), pair),
    "shortcut": (lambda: Shortcut(C, 5, 1, 2, steps=T), pair),
    "tensor": (lambda: ConvNormLIF(C, 5, 1, 2, steps=T, neuron=Neuron()),
               lambda x: torch.cat([x, x + 0.5, x - 0.5])),
    "online": (lambda: Shortcut(C, 5, 1, 2, steps=T),
               lambda x: OnlineStep(x, 2 * x.detach(), {}, 0.2)),
    "branch": (lambda: DeepConv(C, 5), lambda x: x),
}  # fmt: skip


@pytest.mark.parametrize("name", STRIDED)
def test_with_and_without_a_stride_layers_are_equal(name):
    """What the layer returns and the gradients of its input and its parameters."""
    make, activation = STRIDED[name]
    results = []
    for way in (Convolution.unstrided, lambda convolution: ((1, 1), convolution)):
        torch.manual_seed(2)
        layer = make().double()
        x = torch.randn(B, C, 7, 9, dtype=torch.float64, requires_grad=True)
        with patch.object(Convolution, "unstrided", way):
            out = layer(activation(x))
        out = out.rate if isinstance(out, RatePair) else out
        out = out.value if isinstance(out, OnlineStep) else out
        (out * torch.randn_like(out)).sum().backward()
        results.append([out, x.grad, *(p.grad for p in layer.parameters())])
    for unstrided, strided in zip(*results, strict=True):
        torch.testing.assert_close(unstrided, strided, rtol=1e-11, atol=1e-12)


class Slices(TorchDispatchMode):
    """Counts the slices that leave pixels out."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.slice.Tensor and args[4:] not in ((), (1,))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("method", ["esd", "bptt", "ottt"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_gpu_takes_no_pixels_before_a_convolution(device, method, monkeypatch):
    """Seen on fake tensors, which need no GPU."""
    monkeypatch.setattr(kernel, "batch_statistics", functional.batch_statistics)  # has no fake
    options = {"num_classes": 5, "T": T, "width": 4, "branch_pool": None, "method": method}
    with FakeTensorMode(), torch.device(device):
        net = build_model("resnet18", **options)
        with Slices() as slices:
            net(torch.randn(2, 3, 16, 16))
    assert (slices.count > 0) is (device == "cpu")
