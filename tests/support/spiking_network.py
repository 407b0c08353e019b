"""The spiking ResNet-18 on spikingjelly's own layers and multi-step neurons, without branches.

A second implementation of backpropagation through time: spikingjelly runs every layer over
(T, B, ...) and differentiates through its surrogate; and, with its SLTTLIFNode, of spatial
learning through time, one time step at a time. Modules carry the published code's names.

Shapes: T time steps, B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Callable
from functools import partial

from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

BLOCKS = (2, 2, 2, 2)


def constants_of(decay: float, thresh: float, v_reset: float | None, detach_reset: bool) -> dict:
    """The paper's neurons as arguments of spikingjelly's."""
    return {
        "tau": 1 / (1 - decay),
        "decay_input": False,
        "v_threshold": thresh,
        "v_reset": v_reset,
        "surrogate_function": surrogate.Sigmoid(alpha=4.0),
        "detach_reset": detach_reset,
    }


class Block(nn.Module):
    """conv-bn-LIF-conv-bn, plus shortcut, then LIF."""

    def __init__(self, c_in: int, c_out: int, stride: int, fire: Callable[[], nn.Module]):
        super().__init__()
        self.conv1 = layer.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = layer.BatchNorm2d(c_out)
        self.spike1 = fire()
        self.conv2 = layer.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = layer.BatchNorm2d(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            convolution = layer.Conv2d(c_in, c_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(convolution, layer.BatchNorm2d(c_out))
        self.spike2 = fire()

    def forward(self, x: Tensor) -> Tensor:
        out = self.spike1(self.bn1(self.conv1(x)))
        return self.spike2(self.bn2(self.conv2(out)) + self.shortcut(x))


class SpikingResNet18(nn.Module):
    """`width` channels in the first stage; neurons: arguments of `constants_of`.

    online: neurons without gradients through time, one call per time step.
    """

    def __init__(
        self, *, num_classes: int, in_channels: int, width: int, online: bool = False, **neurons
    ):
        super().__init__()
        kind = neuron.SLTTLIFNode if online else neuron.LIFNode
        fire = partial(kind, **constants_of(**neurons))
        convolution = layer.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.conv0 = nn.Sequential(convolution, layer.BatchNorm2d(width), fire())
        c_in = width
        for i, depth in enumerate(BLOCKS):
            c_out, blocks = width * 2**i, []
            for j in range(depth):
                blocks.append(Block(c_in, c_out, 2 if i > 0 and j == 0 else 1, fire))
                c_in = c_out
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.pool = layer.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(layer.Linear(c_in, num_classes))
        functional.set_step_mode(self, "s" if online else "m")

    def forward(self, x: Tensor) -> Tensor:
        """One frame (B, C, H, W) -> logits (B, K), from where the last left the neurons."""
        x = self.conv0(x)
        for i in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{i + 1}")(x)
        return self.classifier(self.pool(x).flatten(-3))
