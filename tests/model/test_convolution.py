"""Convolutions of numbers, spikes and counts are one function; its gradient is autograd's."""

from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from model import build_model, kernel
from model.baseline.online import OnlineStep
from model.baseline.through_time import ThroughTime
from model.branch import DeepConv
from model.convolution import Conv2d, Convolution, Geometry, convolution_backward, subsample
from model.functional import Neuron
from model.kernel.sparse import spike_convolution
from model.layer import ConvNormLIF, Shortcut
from model.rate_pair import Facts, RatePair

GEOMETRIES = [
    Geometry(padding=(1, 1)),
    Geometry(stride=(2, 1), padding=(0, 2)),
    Geometry(padding=(2, 2), dilation=(2, 2), groups=2),
]


@pytest.fixture(params=GEOMETRIES, ids=str)
def case(request):
    """Spikes (3, 4, 7, 9) as bytes and a convolution of them, in float64."""
    generator = torch.Generator().manual_seed(1)
    groups = request.param.groups
    spikes = (torch.rand(3, 4, 7, 9, generator=generator) < 0.3).to(torch.uint8)
    weight = torch.randn(6, 4 // groups, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(6, generator=generator, dtype=torch.float64)
    return spikes, Convolution(weight, bias, request.param)


def test_bytes_convolve_like_numbers(case):
    """Spikes, and counts of several."""
    spikes, convolution = case
    weight, bias, geometry = convolution
    expected = F.conv2d(spikes.double(), weight, bias, **geometry._asdict())
    torch.testing.assert_close(convolution(spikes.double()), expected)
    torch.testing.assert_close(kernel.convolve(spikes, convolution), expected)
    expected = F.conv2d(3.0 * spikes.double(), weight, bias, **geometry._asdict())
    torch.testing.assert_close(kernel.convolve(3 * spikes, convolution), expected)


def test_a_convolution_of_counts_in_few_bits_rounds_weights_and_results_alone(case):
    spikes, convolution = case
    rounded = convolution.in_dtype(torch.float16)
    exact = rounded.in_dtype(torch.float64)(3 * spikes.double())
    assert not rounded.weight.double().equal(convolution.weight)
    for maps in (3 * spikes, 3 * spikes.float()):
        own = kernel.convolve(maps, convolution, dtype=torch.float16)
        assert own.dtype == torch.float16
        torch.testing.assert_close(own.double(), exact, rtol=2**-10, atol=1e-4)


def test_only_bytes_skip(case, monkeypatch):
    """Numbers do not, whether or not they could, nor does anything in another dtype."""
    spikes, convolution = case
    calls = []
    monkeypatch.setattr("model.kernel.choice.can_skip", lambda *arguments: True)
    monkeypatch.setattr(spike_convolution, "convolve", lambda *a, arranged: calls.append(a))
    kernel.convolve(spikes.double(), convolution)
    kernel.convolve(spikes, convolution, dtype=torch.float16)
    assert calls == []
    kernel.convolve(spikes, convolution)
    assert len(calls) == 1


@pytest.mark.parametrize("needs", [(True, True, True), (False, True, False), (True, False, True)])
def test_gradients_are_those_of_autograd(case, needs):
    spikes, (weight, bias, geometry) = case
    x = spikes.double()
    inputs = [value.requires_grad_() for value in (x, weight, bias)]
    out = F.conv2d(x, weight, bias, **geometry._asdict())
    grad = torch.randn_like(out)
    own = convolution_backward(grad, x, weight, geometry, needs)
    wanted = torch.autograd.grad(out, inputs, grad)
    for gradient, needed, expected in zip(own, needs, wanted, strict=True):
        if needed:
            torch.testing.assert_close(gradient, expected)
        else:
            assert gradient is None


T, B, C = 3, 2, 16  # with fewer channels than 16 the strided way may crash on a CPU


def test_a_strided_pointwise_convolution_is_unstrided_on_a_cpu_alone():
    conv = Conv2d(C, 5, 1, 2)
    steps, convolution = Convolution.of(conv).unstrided()
    assert (steps, convolution.geometry.stride) == ((2, 2), (1, 1))
    x = torch.randn(B, C, 7, 8)
    expected = F.conv2d(x, conv.weight, conv.bias, stride=2)
    torch.testing.assert_close(convolution(subsample(x, steps)), expected)
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
    return RatePair(train.flatten(0, 1), x, Facts(T))


STRIDED = {
    "pair": (lambda: ConvNormLIF(C, 5, 1, 2, neuron=Neuron()), pair),
    "shortcut": (lambda: Shortcut(C, 5, 1, 2), pair),
    "through time": (
        lambda: ConvNormLIF(C, 5, 1, 2, neuron=Neuron()),
        lambda x: ThroughTime(torch.cat([x, x + 0.5, x - 0.5]), T, False),
    ),
    "online": (lambda: Shortcut(C, 5, 1, 2), lambda x: OnlineStep(x, 2 * x.detach(), {}, 0.2)),
    "branch": (lambda: DeepConv(C, 5), lambda x: x),
}


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
        out = out if isinstance(out, Tensor) else out.rate
        (out * torch.randn_like(out)).sum().backward()
        results.append([out, x.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-12)


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
def test_a_gpu_takes_no_pixels_before_a_convolution(device, method):
    """Seen on fake tensors, which need no GPU."""
    options = {"num_classes": 5, "T": T, "width": 4, "branch_pool": None, "method": method}
    with FakeTensorMode(), torch.device(device):
        net = build_model("resnet18", **options)
        with Slices() as slices:
            net(torch.randn(2, 3, 16, 16))
    assert (slices.count > 0) is (device == "cpu")
