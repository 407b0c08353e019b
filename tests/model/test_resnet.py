"""The spiking ResNets' blocks against the block written out."""

import torch
import torch.nn.functional as F

from model.functional import Neuron, lif_rate
from model.resnet import BasicBlock
from model.spike_train import SpikeTrain

T, B = 3, 2
NEURON = Neuron()


def fire(x: torch.Tensor) -> torch.Tensor:
    return lif_rate(x.unflatten(0, (T, B)), *NEURON)[0].flatten(0, 1)


def test_basic_block_is_two_convolutions_and_a_shortcut() -> None:
    block = BasicBlock(3, 6, 2, neuron=NEURON).double().eval()
    x = torch.rand(T * B, 3, 8, 8, dtype=torch.float64)
    inner, last, shortcut = block.unit1, block.unit2, block.shortcut
    out = fire(inner.norm(F.conv2d(x, inner.conv.weight, stride=2, padding=1)))
    out = last.norm(F.conv2d(out, last.conv.weight, padding=1))
    out = fire(out + shortcut.norm(F.conv2d(x, shortcut.conv.weight, stride=2)))
    with torch.no_grad():
        torch.testing.assert_close(block(SpikeTrain(x, T, False)).maps, out)


def test_a_block_that_keeps_the_shape_has_the_identity_as_shortcut() -> None:
    assert BasicBlock(4, 4, 1, neuron=NEURON).shortcut is None
    assert BasicBlock(4, 4, 2, neuron=NEURON).shortcut is not None
