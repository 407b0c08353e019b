"""The convolution that skips silent inputs, against PyTorch's dense one.

Shapes: N maps, Ci and C channels, H height, W width.
"""

import pytest
import torch
import torch.nn.functional as F

from model import Execution, build_model
from model.convolution import Convolution
from model.distillation import SelfDistillationLoss
from model.kernel.sparse import spike_convolution
from model.rate_pair import RatePair
from tests.support.compiler import needs_compiler
from tests.support.spike_case import SpikeCase

pytestmark = needs_compiler

SIZES = [
    SpikeCase(N=3, Ci=5, H=7, W=9, C=6, kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
    SpikeCase(N=2, Ci=64, H=8, W=8, C=64, kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    SpikeCase(N=2, Ci=130, H=5, W=4, C=70, kernel=(1, 1), stride=(1, 1), padding=(0, 0)),
    SpikeCase(N=1, Ci=67, H=9, W=6, C=33, kernel=(3, 2), stride=(1, 2), padding=(2, 0)),
    SpikeCase(N=2, Ci=8, H=12, W=11, C=100, kernel=(7, 7), stride=(2, 2), padding=(3, 3)),
    SpikeCase(N=1, Ci=1, H=3, W=3, C=1, kernel=(3, 3), stride=(1, 1), padding=(0, 0)),
    SpikeCase(N=3, Ci=512, H=1, W=1, C=40, kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
    SpikeCase(N=2, Ci=512, H=4, W=4, C=64, kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
    SpikeCase(N=0, Ci=8, H=4, W=4, C=8, kernel=(3, 3), stride=(1, 1), padding=(1, 1)),
]
TILES = SpikeCase(N=5, Ci=3, H=37, W=61, C=64, kernel=(3, 3), stride=(1, 1), padding=(1, 1))
ARCHS = [
    ("resnet18", "published", 16),
    ("resnet19", "published", 16),
    ("preact_resnet18", "published", 64),
    ("preact_resnet18", "small", 16),
    ("sew_resnet18", "published", 64),
    ("ms_resnet18", "small", 16),
    ("vgg11", "published", 16),
]


@pytest.fixture(scope="module", autouse=True)
def operator():
    """The tests below would pass on the dense convolution too: it must not be what they see."""
    assert spike_convolution.is_available()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("case", SIZES, ids=str)
def test_equals_the_dense_convolution(case, channels_last, dtype):
    """Its error against float64 is at most twice that of the dense one, plus some roundings."""
    for bias in (True, False):
        spikes, convolution = case.arguments(dtype, channels_last=channels_last, bias=bias)
        weight, shift, _ = convolution
        geometry = case.stride, case.padding
        own = spike_convolution.convolve(spikes, convolution)
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
    out = spike_convolution.convolve(spikes, convolution)
    torch.testing.assert_close(out, convolution(spikes.double()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_tiles_and_threads(threads):
    """Many tiles of rows of several maps, the last one smaller; every sum has one order."""
    spikes, convolution = TILES.arguments(torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        out = spike_convolution.convolve(spikes, convolution)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(out, convolution(spikes.double()))
    alone = [spike_convolution.convolve(one[None], convolution) for one in spikes]
    assert out.equal(torch.cat(alone))


def test_weights_and_spikes_of_any_layout():
    """Every second pixel of larger maps, and a transposed 1x1 kernel."""
    spikes, (weight, _, _) = SIZES[2].arguments(torch.float64)
    weight = weight.transpose(0, 1).contiguous().transpose(0, 1)
    part = spikes[:, :, ::2, ::2]
    out = spike_convolution.convolve(part, Convolution(weight))
    torch.testing.assert_close(out, F.conv2d(part.double(), weight))


def test_operator_keeps_its_promises():
    spikes, (weight, bias, _) = SIZES[3].arguments(torch.float32)
    run = torch.ops.spiking_cpu.spike_convolution
    torch.library.opcheck(run, (spikes, weight, bias, [1, 2], [2, 0]))


def test_operator_refuses_what_does_not_fit():
    run = torch.ops.spiking_cpu.spike_convolution
    spikes, (weight, _, _) = SIZES[0].arguments(torch.float32)
    with pytest.raises(RuntimeError, match="spikes must be bytes"):
        run(spikes.float(), weight, None, (1, 1), (1, 1))
    with pytest.raises(RuntimeError, match="do not fit a weight"):
        run(spikes[:, :4], weight, None, (1, 1), (1, 1))
    with pytest.raises(RuntimeError, match="smaller than the kernel"):
        run(spikes[:, :, :1], weight, None, (1, 1), (0, 0))
    with pytest.raises(RuntimeError, match="two numbers above 0"):
        run(spikes, weight, None, (0, 1), (1, 1))
    with pytest.raises(RuntimeError, match="two numbers from 0"):
        run(spikes, weight, None, (1, 1), (-1, 0))
    with pytest.raises(RuntimeError, match="the bias does not fit"):
        run(spikes, weight, torch.zeros(5), (1, 1), (1, 1))


@pytest.mark.parametrize("other", [{"dilation": (2, 2)}, {"groups": 5}])
def test_other_convolutions_cannot_skip(other):
    spikes, (weight, _, geometry) = SIZES[0].arguments(torch.float64)
    weight = weight[:5, : 5 // other.get("groups", 1)]
    assert spike_convolution.can_skip(spikes, Convolution(weight, None, geometry))
    other_geometry = geometry._replace(**other)
    assert not spike_convolution.can_skip(spikes, Convolution(weight, None, other_geometry))


def test_what_can_skip():
    spikes, convolution = SIZES[0].arguments(torch.float32)
    assert spike_convolution.can_skip(spikes, convolution)
    half = convolution._replace(weight=convolution.weight.half())
    assert not spike_convolution.can_skip(spikes, half)
    assert not spike_convolution.can_skip(spikes.to("meta"), convolution)
    with torch.autocast("cpu", torch.bfloat16):
        assert not spike_convolution.can_skip(spikes, convolution)


@pytest.mark.parametrize(("arch", "stem", "size"), ARCHS)
def test_networks_do_not_change(arch, stem, size):
    """Logits, gradients and running statistics of a step equal those of dense convolutions."""
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        options = {"num_classes": 5, "T": 3, "width": 8, "branch_pool": None, "stem": stem}
        net = build_model(arch, execution=Execution(sparse=sparse), **options)
        net.double().to(memory_format=torch.channels_last)
        heads = net(torch.randn(3, 3, size, size, dtype=torch.double))
        SelfDistillationLoss(1.0, 0.3)(heads, torch.tensor([0, 1, 2])).total.backward()
        found.append([*heads, *(p.grad for p in net.parameters()), *net.buffers()])
    for own, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-11)


def test_trains_are_bytes_between_the_layers():
    net = build_model(
        "resnet18", num_classes=3, T=2, width=4, branch_pool=None, execution=Execution(sparse=True)
    )
    seen = []
    for stage in net.stages:
        stage.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        for block in stage:
            block.register_forward_hook(lambda module, inputs, out: seen.append(out))
    net(torch.randn(2, 3, 8, 8))
    assert len(seen) == 8 and all(isinstance(x, RatePair) for x in seen)
    assert {x.train.dtype for x in seen} == {torch.uint8}
    assert {x.rate.dtype for x in seen} == {torch.float32}
