"""Batch norms folded into convolutions; what cannot be folded."""

import pytest
import torch
from torch import nn

from model import build_model
from model.inference.fold import fold, fold_convolution
from model.layer import ConvNorm
from tests.support.trained_run import stir


@pytest.mark.parametrize("kernel_size, stride, bias", [(3, 2, False), (1, 2, True), (7, 2, True)])
@torch.no_grad()
def test_folded_convolution_equals_convolution_and_batch_norm(kernel_size, stride, bias):
    layer = ConvNorm(3, 5, kernel_size, stride, bias=bias).double()
    stir(layer).eval()
    x = torch.randn(2, 3, 9, 11, dtype=torch.float64)
    torch.testing.assert_close(
        fold_convolution(layer)(x), layer.norm(layer.conv(x)), rtol=1e-12, atol=1e-12
    )


def test_an_unknown_block_is_refused():
    net = build_model("resnet18", num_classes=3, T=2, width=2)
    net.stages[1][0] = nn.Identity()
    with pytest.raises(ValueError, match=r"cannot fold stages\.1\.0 \(Identity\)"):
        fold(net)
    net.stem = nn.Conv2d(3, 2, 3)
    with pytest.raises(ValueError, match=r"cannot fold the stem \(Conv2d\)"):
        fold(net)
