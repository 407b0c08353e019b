"""A folded network on a CPU that does nothing for what does not fire."""

from __future__ import annotations

from model import kernel
from model.inference.folded import FoldedConv2d, FoldedNetwork, Neurons


def skip_silence(net: FoldedNetwork) -> FoldedNetwork:
    """Have a network skip silent inputs from now on; its logits stay the same up to rounding.

    Spikes are then bytes between its layers, and wherever few enough fire a convolution adds up
    their weights alone. For that the weights are arranged once: they must not change later. On
    another device than a CPU, in other dtypes than fp32 and fp64, where a weight rules it out, or
    without a compiler, the network stays as it is. Returns: net.
    """
    weight = net.stem[0].weight
    if not all(kernel.can_fire_bytes(weight, neurons.neuron) for neurons in net.neurons()):
        return net
    for layer in net.modules():
        match layer:
            case FoldedConv2d():
                layer.arranged = kernel.arrange(layer.weight)
            case Neurons():
                layer.as_bytes = True
    return net
