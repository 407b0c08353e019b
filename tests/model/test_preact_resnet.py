"""The PreAct-ResNets' blocks against the block written out; initialisation."""

import math

import torch
import torch.nn.functional as F

from model import build_model
from model.functional import Neuron, lif_rate
from model.preact_resnet import PreActBlock
from model.spike_train import SpikeTrain

T, B = 3, 2
NEURON = Neuron()


def fire(x: torch.Tensor) -> torch.Tensor:
    return lif_rate(x.unflatten(0, (T, B)), *NEURON)[0].flatten(0, 1)


def test_block_fires_before_each_convolution_and_adds_the_raw_input() -> None:
    block = PreActBlock(3, 3, 1, neuron=NEURON).double().eval()
    x = torch.randn(T * B, 3, 7, 8, dtype=torch.float64)
    inner, last = block.unit1, block.unit2
    out = fire(inner.norm(F.conv2d(fire(x), inner.conv.weight, inner.conv.bias, padding=1)))
    out = last.norm(F.conv2d(out, last.conv.weight, last.conv.bias, padding=1)) + x
    with torch.no_grad():
        torch.testing.assert_close(block(SpikeTrain(x, T, False)).maps, out)


def test_convolutions_start_with_kaiming_fan_out() -> None:
    net = build_model("preact_resnet18", num_classes=3, T=2, width=32)
    conv = net.stages[2][1].unit1.conv
    expected = math.sqrt(2 / (conv.out_channels * 9))
    assert abs(conv.weight.std().item() / expected - 1) < 0.03
