"""The pooling of the ANN branches, as published; the rest of them is in the two-stage equality."""

import pytest
import torch

from model.branch import Branch


def test_a_window_reads_the_top_left_corner_only() -> None:
    branch = Branch((4, 8), 5, pool=4).eval()
    seen = branch.blocks(torch.rand(2, 4, 14, 14))  # (2, 8, 7, 7)
    expected = branch.classifier(seen[:, :, :4, :4].mean((2, 3)))
    branch.blocks = torch.nn.Identity()
    torch.testing.assert_close(branch(seen), expected)


@pytest.mark.parametrize("size", [6, 16])  # branch maps of 3x3 and 8x8
def test_a_window_that_does_not_leave_one_pixel_is_refused(size: int) -> None:
    branch = Branch((4, 8), 5, pool=4)
    with pytest.raises(ValueError, match="global"):
        branch(torch.rand(2, 4, size, size))
