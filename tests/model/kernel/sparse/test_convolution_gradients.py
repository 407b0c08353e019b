"""Gradients by minimal filtering, against PyTorch's dense ones.

Shapes: N maps, Ci and C channels, H height, W width.
"""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from model import Execution, build_model, kernel
from model.convolution import Geometry, convolution_backward
from model.kernel.sparse import convolution_gradients
from model.kernel.sparse.convolution_gradients import GEOMETRY, can_filter, filtered_gradients
from tests.support.compiler import needs_compiler

pytestmark = [needs_compiler, pytest.mark.usefixtures("operators")]


class GradientCase(NamedTuple):
    """Sizes of a 3x3 convolution with stride 1 and padding 1."""

    N: int
    Ci: int
    H: int
    W: int
    C: int

    def arguments(
        self, dtype: torch.dtype, *, maps: torch.dtype = torch.uint8, layout=torch.channels_last
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A gradient (N, C, H, W), counts of up to four spikes (N, Ci, H, W), and a weight."""
        generator = torch.Generator().manual_seed(0)
        grad = torch.randn(self.N, self.C, self.H, self.W, generator=generator)
        x = torch.randint(0, 5, (self.N, self.Ci, self.H, self.W), generator=generator)
        weight = torch.randn(self.C, self.Ci, 3, 3, generator=generator)
        tensors = grad.to(dtype), x.to(maps), weight.to(dtype)
        return tuple(tensor.contiguous(memory_format=layout) for tensor in tensors)


SIZES = [
    GradientCase(2, 32, 8, 8, 48),
    GradientCase(3, 80, 7, 9, 16),
    GradientCase(2, 24, 8, 8, 24),
    GradientCase(1, 16, 1, 1, 16),
    GradientCase(2, 144, 2, 3, 32),
    GradientCase(5, 16, 13, 4, 80),
    GradientCase(0, 16, 4, 4, 16),
    GradientCase(2, 16, 65, 66, 16),  # more tiles in a map than a part has
]
PARTS = GradientCase(37, 80, 17, 21, 80)  # of several maps each, the last one smaller


def dense(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return convolution_backward(grad, x.to(grad.dtype), weight, GEOMETRY, (True, True, False))[:2]


@pytest.mark.parametrize("maps", [torch.uint8, torch.float64])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("case", SIZES, ids=str)
def test_equal_the_dense_gradients(case, layout, maps):
    grad, x, weight = case.arguments(torch.float64, maps=maps, layout=layout)
    for own, expected in zip(
        filtered_gradients(grad, x, weight), dense(grad, x, weight), strict=True
    ):
        assert own.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("case", [SIZES[0], SIZES[1], PARTS], ids=str)
def test_are_as_good_as_fp32(case):
    """In the mean within 24 roundings; dense ones err by 2 to 20, as long as their sums are."""
    grad, x, weight = case.arguments(torch.float32)
    exact = dense(grad.double(), x, weight.double())
    for own, truth in zip(filtered_gradients(grad, x, weight), exact, strict=True):
        assert own.dtype == torch.float32
        error = (own.double() - truth).norm() / truth.norm()
        assert error < 24 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_parts_and_threads(threads):
    arguments = PARTS.arguments(torch.float64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        own = filtered_gradients(*arguments)
    finally:
        torch.set_num_threads(before)
    for mine, expected in zip(own, dense(*arguments), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-10)


def test_memory_that_lies_in_any_way():
    """A gradient that is one number, as of a sum; slices; a weight and maps that are views."""
    grad, x, weight = SIZES[0].arguments(torch.float64)
    wide = torch.zeros(2, 32, 16, 17, dtype=torch.uint8)
    wide[:, :, ::2, 1::2] = x
    arguments = torch.tensor(0.5).double().expand_as(grad), wide[:, :, ::2, 1::2], weight.mT
    for own, expected in zip(filtered_gradients(*arguments), dense(*arguments), strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-12, atol=1e-11)


def test_memory_that_starts_anywhere():
    """Slices of larger tensors, whose values no vector is aligned to."""
    for tensor in range(3):
        arguments = list(SIZES[0].arguments(torch.float32))
        own = arguments[tensor]
        odd = torch.empty(own.numel() + 1, dtype=own.dtype)[1:]
        arguments[tensor] = odd.as_strided(own.shape, own.stride()).copy_(own)
        assert arguments[tensor].data_ptr() % 16
        for mine, expected in zip(filtered_gradients(*arguments), dense(*arguments), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_not_hidden(value):
    grad, x, weight = SIZES[0].arguments(torch.float32)
    grad[1, 3, 5, 2] = value
    for own in filtered_gradients(grad, x, weight):
        assert not own.isfinite().all()


def test_who_is_filtered():
    """3x3 convolutions that keep the size, of enough channels and tiles; no other."""
    maps, weight = torch.empty(2, 64, 8, 8), torch.empty(32, 64, 3, 3)
    assert can_filter(maps, weight, GEOMETRY) and can_filter(maps.byte(), weight, GEOMETRY)
    assert can_filter(torch.empty(8, 64, 2, 2), weight, GEOMETRY)
    refused = [
        (maps, torch.empty(24, 64, 3, 3), GEOMETRY),  # few channels, or not a register's
        (maps, torch.empty(40, 64, 3, 3), GEOMETRY),
        (torch.empty(2, 16, 8, 8), torch.empty(64, 16, 3, 3), GEOMETRY),
        (torch.empty(7, 64, 4, 4), weight, GEOMETRY),  # few tiles
        (torch.empty(64, 64, 1, 1), weight, GEOMETRY),  # more products than dense
        (maps, weight, Geometry(stride=(2, 2), padding=(1, 1))),
        (maps, weight, Geometry()),
        (maps, weight, Geometry(padding=(1, 1), groups=2)),
        (maps, weight, Geometry(padding=(1, 1), dilation=(2, 2))),
        (maps, weight, Geometry(padding=(1, 2))),
        (maps, torch.empty(32, 64, 1, 1), GEOMETRY),
        (maps.bfloat16(), weight, GEOMETRY),
        (maps.bfloat16(), weight.bfloat16(), GEOMETRY),
        (maps.double(), weight, GEOMETRY),
        (maps.to("meta"), weight.to("meta"), GEOMETRY),
    ]
    for arguments in refused:
        assert not can_filter(*arguments)


def test_wrong_arguments_are_refused():
    grad, x, weight = SIZES[0].arguments(torch.float32)
    few = GradientCase(2, 6, 8, 8, 48).arguments(torch.float32)
    wrong = [
        ((grad, x, weight[:, :, :1]), "none of a 3x3 convolution"),
        ((grad, x[:, :16], weight), "none of a 3x3 convolution"),
        ((grad[..., 1:], x, weight), "does not fit maps"),
        ((grad[:, :16], x, weight), "does not fit maps"),
        ((grad.double(), x, weight), "of one type"),
        ((grad, x.double(), weight), "of one type"),
        (few, "expected multiples of"),
    ]
    for arguments, words in wrong:
        with pytest.raises(RuntimeError, match=words):
            filtered_gradients(*arguments)


@pytest.mark.parametrize("maps", [torch.uint8, torch.float32])
def test_is_a_correct_operator(maps):
    """What a compiler is told of the result, its layout included, is what comes back."""
    for layout in (torch.channels_last, torch.contiguous_format):
        arguments = SIZES[1].arguments(torch.float32, maps=maps, layout=layout)
        torch.library.opcheck(torch.ops.spiking_cpu.convolution_gradients, arguments)


def test_the_kernel_filters_where_it_can():
    """Bit for bit the dense gradients where not; the bias's, too."""
    grad, x, weight = SIZES[0].arguments(torch.float64)

    def found(needs: tuple[bool, bool, bool], *, sparse: bool = True, dtype=torch.float64):
        execution = Execution(sparse=sparse)
        arguments = grad.to(dtype), x, weight, GEOMETRY, needs, execution
        return kernel.convolve_backward(*arguments, dtype=dtype)

    every = (True, True, True)
    expected = convolution_backward(grad, x.double(), weight, GEOMETRY, every)
    for own, exact in zip(found(every), expected, strict=True):
        torch.testing.assert_close(own, exact, rtol=1e-12, atol=1e-11)
    assert not torch.equal(found(every)[0], expected[0])
    assert found((True, True, False))[2] is None
    for needs in (every, (True, False, False), (False, True, True)):
        dense_ones = convolution_backward(grad, x.double(), weight, GEOMETRY, needs)
        for own, exact in zip(found(needs, sparse=needs != every), dense_ones, strict=True):
            assert own is exact is None or torch.equal(own, exact)
    low = convolution_backward(grad.bfloat16(), x.bfloat16(), weight, GEOMETRY, every)
    for own, exact in zip(found(every, dtype=torch.bfloat16), low, strict=True):
        assert torch.equal(own, exact)


@pytest.mark.parametrize("arch", ["resnet18", "preact_resnet18", "sew_resnet18", "vgg11"])
def test_a_sparse_network_learns_by_them(arch, monkeypatch):
    """In float64 what it learns without, but for what norms of a few values make of roundings."""
    seen = []
    monkeypatch.setattr(
        convolution_gradients,
        "filtered_gradients",
        lambda *arguments: seen.append(arguments[1].dtype) or filtered_gradients(*arguments),
    )
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    found = []
    for sparse in (True, False):
        torch.manual_seed(1)
        sizes = {"num_classes": 3, "T": 3, "width": 32, "branch_pool": None}
        net = build_model(arch, **sizes, execution=Execution(sparse=sparse)).double()
        before = len(seen)
        sum(head.logsumexp(1).sum() for head in net(images)).backward()
        assert (len(seen) > before) == sparse
        found.append([parameter.grad for parameter in net.parameters()])
    assert torch.uint8 in seen
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-6, atol=1e-7)
