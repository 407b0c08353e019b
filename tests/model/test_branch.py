"""The ANN branches: shapes, pooling as published, refusal of windows that do not fit."""

import pytest
import torch
import torch.nn.functional as F

from model.branch import Branch, DeepConv, StdConvBlock


@pytest.mark.parametrize("size", [5, 8, 9])
def test_deep_conv_halves_the_map_and_changes_the_width(size: int) -> None:
    block = DeepConv(3, 7)
    assert block(torch.randn(2, 3, size, size)).shape == (2, 7, -(-size // 2), -(-size // 2))


def test_deep_conv_shortcut_is_a_strided_pointwise_convolution() -> None:
    block = DeepConv(3, 5).double().eval()
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    shortcut = block.shortcut_norm(F.conv2d(x, block.shortcut.weight, stride=2))
    inner = F.relu(block.norm1(block.pointwise1(block.depthwise1(x))))
    inner = F.relu(block.norm2(block.pointwise2(block.depthwise2(inner))))
    torch.testing.assert_close(block(x), F.relu(shortcut + inner))


def test_standard_block_is_the_identity_of_positive_maps_when_its_last_norm_is_zero() -> None:
    block = StdConvBlock(4)
    torch.nn.init.zeros_(block.norm2.weight)
    x = torch.rand(3, 4, 5, 6)
    torch.testing.assert_close(block(x), x)


def test_one_deep_conv_per_remaining_stage() -> None:
    branch = Branch((4, 8, 16), 5, pool=None)
    assert [type(block) for block in branch.blocks] == [DeepConv, DeepConv]
    with_blocks = Branch((4, 8), 5, pool=None, standard_block=True)
    assert [type(block) for block in with_blocks.blocks] == [DeepConv, StdConvBlock]
    assert branch(torch.rand(3, 4, 9, 9)).shape == (3, 5)


def test_a_window_reads_the_top_left_corner_only() -> None:
    branch = Branch((4, 8), 5, pool=4).eval()
    seen = branch.blocks(torch.rand(2, 4, 14, 14))  # (2, 8, 7, 7)
    expected = branch.classifier(seen[:, :, :4, :4].mean((2, 3)))
    branch.blocks = torch.nn.Identity()
    torch.testing.assert_close(branch(seen), expected)


def test_without_a_window_the_whole_map_counts() -> None:
    branch = Branch((4, 8), 5, pool=None).eval()
    seen = torch.rand(2, 8, 7, 5)
    branch.blocks = torch.nn.Identity()
    torch.testing.assert_close(branch(seen), branch.classifier(seen.mean((2, 3))))


@pytest.mark.parametrize("size", [6, 16])  # branch maps of 3x3 and 8x8
def test_a_window_that_does_not_leave_one_pixel_is_refused(size: int) -> None:
    branch = Branch((4, 8), 5, pool=4)
    with pytest.raises(ValueError, match="global"):
        branch(torch.rand(2, 4, size, size))
