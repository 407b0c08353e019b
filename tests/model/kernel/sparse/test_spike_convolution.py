"""The convolution that skips silent inputs, against PyTorch's dense one.

Shapes: N maps, Ci and C channels, H height, W width.
"""

from functools import partial
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model import Execution, build_model
from model.convolution import Convolution, Geometry
from model.distillation import SelfDistillationLoss
from model.kernel.sparse import spike_convolution
from model.rate_pair import RatePair
from tests.support.compiler import needs_compiler

pytestmark = [needs_compiler, pytest.mark.usefixtures("operators")]


class SpikeCase(NamedTuple):
    """Sizes of a convolution; its kernel, stride and padding by rows and columns."""

    N: int
    Ci: int
    H: int
    W: int
    C: int
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)

    def arguments(
        self, dtype: torch.dtype, *, layout=torch.channels_last, bias: bool = True, firing=0.3
    ) -> tuple[Tensor, Convolution]:
        """Spikes (N, Ci, H, W), bytes, and their convolution.

        Weights are fp32 numbers, whose sums are all but exact in float64.
        """
        generator = torch.Generator().manual_seed(0)
        spikes = torch.rand(self.N, self.Ci, self.H, self.W, generator=generator) < firing
        weight = torch.randn(self.C, self.Ci, *self.kernel, generator=generator).to(dtype)
        shift = torch.randn(self.C, generator=generator).to(dtype) if bias else None
        spikes = spikes.to(torch.uint8).contiguous(memory_format=layout)
        weight = weight.contiguous(memory_format=layout)
        return spikes, Convolution(weight, shift, Geometry(self.stride, self.padding))


SIZES = [
    SpikeCase(3, 5, 7, 9, 6),
    SpikeCase(2, 64, 8, 8, 64, stride=(2, 2)),
    SpikeCase(2, 130, 5, 4, 70, kernel=(1, 1), padding=(0, 0)),
    SpikeCase(1, 67, 9, 6, 33, kernel=(3, 2), stride=(1, 2), padding=(2, 0)),
    SpikeCase(2, 8, 12, 11, 100, kernel=(7, 7), stride=(2, 2), padding=(3, 3)),
    SpikeCase(1, 1, 3, 3, 1, padding=(0, 0)),
    SpikeCase(3, 512, 1, 1, 40),
    SpikeCase(2, 512, 4, 4, 64),
    SpikeCase(1, 65, 4, 5, 300),  # several blocks of output channels, whatever a register holds
    SpikeCase(0, 8, 4, 4, 8),
]
TILES = SpikeCase(5, 3, 37, 61, 64)
ARCHS = [
    ("resnet18", "published", 16),
    ("resnet19", "published", 16),
    ("preact_resnet18", "published", 64),
    ("preact_resnet18", "small", 16),
    ("sew_resnet18", "published", 64),
    ("ms_resnet18", "small", 16),
    ("vgg11", "published", 16),
]


def skipped(spikes: Tensor, convolution: Convolution, **options) -> Tensor:
    """Whatever the firing rate."""
    return spike_convolution.convolve(spikes, convolution, most=1.0, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("case", SIZES, ids=str)
def test_equals_the_dense_convolution(case, layout, dtype):
    """Its error against float64 is at most twice that of the dense one, plus some roundings."""
    for bias in (True, False):
        spikes, convolution = case.arguments(dtype, layout=layout, bias=bias)
        weight, shift, _ = convolution
        geometry = case.stride, case.padding
        own = skipped(spikes, convolution)
        plain = F.conv2d(spikes.to(dtype), weight, shift, *geometry)
        wide = None if shift is None else shift.double()
        truth = F.conv2d(spikes.double(), weight.double(), wide, *geometry)
        assert own.shape == plain.shape and own.dtype == dtype
        assert own.is_contiguous(memory_format=torch.channels_last)
        if truth.numel():
            error, plain_error = ((out.double() - truth).abs().max() for out in (own, plain))
            rounding = torch.finfo(dtype).eps * truth.abs().max()
            assert error <= 2 * plain_error + 8 * rounding


@pytest.mark.parametrize("firing", [0.0, 1.0])
def test_silent_and_saturated_inputs(firing):
    spikes, convolution = SIZES[0].arguments(torch.float64, firing=firing)
    out = skipped(spikes, convolution)
    torch.testing.assert_close(out, convolution(spikes.double()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tiles_and_threads(threads):
    """Many tiles of rows of several maps, the last one smaller; every sum has one order."""
    spikes, convolution = TILES.arguments(torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        out = skipped(spikes, convolution)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(out, convolution(spikes.double()))
    alone = [skipped(one[None], convolution) for one in spikes]
    assert out.equal(torch.cat(alone))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", SIZES, ids=str)
def test_weights_that_are_arranged_before_give_the_same(case, dtype):
    spikes, convolution = case.arguments(dtype)
    arranged = spike_convolution.arrange(convolution.weight)
    own = skipped(spikes, convolution, arranged=arranged)
    assert own.equal(skipped(spikes, convolution))


@pytest.mark.parametrize("position", [0, 5, 63, 64, 129])
def test_bytes_that_count_several_spikes_are_convolved_as_numbers(position):
    """One of them, in whichever word and channel, of a map that is silent otherwise."""
    spikes, convolution = SIZES[2].arguments(torch.float64, firing=0.0)
    for count in (2, 3, 255):
        spikes[1, position, 2, 3] = count
        expected = convolution(spikes.double())
        assert expected.abs().max() > 1
        torch.testing.assert_close(skipped(spikes, convolution), expected)


def test_what_takes_less_time_is_done():
    """The dense one above a firing rate; the order of the sums gives it away."""
    spikes, convolution = SpikeCase(2, 64, 9, 9, 64).arguments(torch.float32, firing=0.3)
    dense = convolution(spikes.float())
    fired = spikes.double().mean().item()
    for most in (0.0, fired - 1e-6):
        own = spike_convolution.convolve(spikes, convolution, most=most)
        assert own.equal(dense)
        assert own.is_contiguous(memory_format=torch.channels_last)
    sparse = spike_convolution.convolve(spikes, convolution, most=fired + 1e-6)
    assert sparse.equal(skipped(spikes, convolution)) and not sparse.equal(dense)
    assert spike_convolution.convolve(spikes, convolution).equal(sparse)


def test_the_rate_that_pays_is_high_for_wide_layers_and_none_for_narrow_ones():
    def pays(c_out: int, c_in: int, dtype=torch.float32) -> float:
        return spike_convolution.rate_that_pays(torch.empty(c_out, c_in, 3, 3, dtype=dtype))

    assert pays(4, 4) < 0 and pays(64, 3) < 0
    rates = [pays(width, width) for width in (16, 32, 64, 128)]
    assert rates == sorted(rates) and 0.5 < rates[2] <= rates[3] < 1
    assert pays(64, 64, torch.float64) > pays(16, 16)


def test_weights_and_spikes_of_any_layout():
    """Every second pixel of larger maps, and a transposed 1x1 kernel."""
    spikes, (weight, _, _) = SIZES[2].arguments(torch.float64)
    weight = weight.transpose(0, 1).contiguous().transpose(0, 1)
    part = spikes[:, :, ::2, ::2]
    out = skipped(part, Convolution(weight))
    torch.testing.assert_close(out, F.conv2d(part.double(), weight))


def test_operator_keeps_its_promises():
    spikes, (weight, bias, _) = SIZES[3].arguments(torch.float32)
    run = torch.ops.spiking_cpu.spike_convolution
    torch.library.opcheck(run, (spikes, weight, bias, [1, 2], [2, 0], 1.0))


SPIKES, (WEIGHT, _, _) = SIZES[0].arguments(torch.float32)
REFUSED = {
    "spikes must be bytes": (SPIKES.float(), WEIGHT, None, (1, 1), (1, 1)),
    "do not fit a weight": (SPIKES[:, :4], WEIGHT, None, (1, 1), (1, 1)),
    "smaller than the kernel": (SPIKES[:, :, :1], WEIGHT, None, (1, 1), (0, 0)),
    "two numbers above 0": (SPIKES, WEIGHT, None, (0, 1), (1, 1)),
    "two numbers from 0": (SPIKES, WEIGHT, None, (1, 1), (-1, 0)),
    "the bias does not fit": (SPIKES, WEIGHT, torch.zeros(5), (1, 1), (1, 1)),
    "arranged weights": (SPIKES, WEIGHT, None, (1, 1), (1, 1), 1.0, torch.zeros(1, 1, 9, 64, 64)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_operator_refuses_what_does_not_fit(message):
    with pytest.raises(RuntimeError, match=message):
        torch.ops.spiking_cpu.spike_convolution(*REFUSED[message])


def test_what_can_skip():
    spikes, convolution = SIZES[0].arguments(torch.float32)
    assert spike_convolution.can_skip(spikes, convolution)
    weight, _, geometry = convolution
    others = [
        (spikes, Convolution(weight.half(), None, geometry)),
        (spikes, Convolution(weight, None, geometry._replace(dilation=(2, 2)))),
        (spikes, Convolution(weight[:5, :1], None, geometry._replace(groups=5))),
        (spikes.to("meta"), convolution),
    ]
    assert not any(spike_convolution.can_skip(*other) for other in others)
    with torch.autocast("cpu", torch.bfloat16):
        assert not spike_convolution.can_skip(spikes, convolution)


@pytest.mark.parametrize(("arch", "stem", "size"), ARCHS)
def test_networks_do_not_change(arch, stem, size, monkeypatch):
    """Logits, gradients and running statistics of a step equal those of dense convolutions."""
    always = partial(spike_convolution.convolve, most=1.0)
    monkeypatch.setattr(spike_convolution, "convolve", always)
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        options = {"num_classes": 5, "T": 3, "width": 8, "branch_pool": None, "stem": stem}
        net = build_model(arch, execution=Execution(sparse=sparse), **options)
        net.double().to(memory_format=torch.channels_last)
        heads = net(torch.randn(3, 3, size, size, dtype=torch.double))
        SelfDistillationLoss(1.0, 0.3)(heads, torch.tensor([0, 1, 2])).total.backward()
        found.append([*heads, *(p.grad for p in net.parameters()), *net.buffers()])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


def test_trains_are_bytes_between_the_layers():
    options = {"num_classes": 3, "T": 2, "width": 4, "branch_pool": None}
    net = build_model("resnet18", execution=Execution(sparse=True), **options)
    seen = []
    for stage in net.stages:
        stage.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        for block in stage:
            block.register_forward_hook(lambda module, inputs, out: seen.append(out))
    net(torch.randn(2, 3, 8, 8))
    assert len(seen) == 8 and all(isinstance(x, RatePair) for x in seen)
    assert {x.train.dtype for x in seen} == {torch.uint8}
    assert {x.rate.dtype for x in seen} == {torch.float32}
