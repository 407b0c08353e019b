"""A trained network to the `folded` one: batch norms into convolutions, branches left out.

With batch norm's running mean mu, variance V, gamma and beta, the layer after a convolution with
weight W and bias b is again a convolution, with

    scale = gamma / sqrt(V + eps),   W' = scale W,   b' = scale (b - mu) + beta

so the spike trains are those of the network that was trained, up to rounding.
"""

from __future__ import annotations

import torch
from torch import nn

from model.abc_model import RateModel
from model.convolution import Convolution
from model.inference.folded import Block, FoldedNetwork, Neurons
from model.layer import AveragePool, ConvNorm, ConvNormLIF, LIFLayer, Linear, MaxPool
from model.preact_resnet import PreActBlock, Stem
from model.resnet import BasicBlock
from model.zoo.sew_resnet import SEWBlock


def fold(net: RateModel) -> FoldedNetwork:
    """The same network for inference, in eval mode, with its own copy of the weights.

    Raises: ValueError for a network of blocks that are not known here.
    """
    if not isinstance(net.stem, ConvNorm):
        raise ValueError(f"cannot fold the stem ({type(net.stem).__name__}): expected a ConvNorm")
    stem = nn.Sequential()
    stem.add_module("conv", fold_convolution(net.stem))
    if isinstance(net.stem, Stem):
        stem.add_module("pool", fold_layer(net.stem.pool, "stem.pool"))
    stages = nn.ModuleList(
        nn.ModuleList(fold_layer(block, f"stages.{i}.{j}") for j, block in enumerate(stage))
        for i, stage in enumerate(net.stages)
    )
    classifier = nn.ModuleList(
        fold_layer(layer, f"classifier.{i}") for i, layer in enumerate(net.classifier)
    )
    neurons = _neurons_of(net.stem, "stem")
    folded = FoldedNetwork(
        stem, neurons, stages, classifier, in_channels=net.in_channels, T=net.T, pooled=net.pooled
    )
    return folded.eval()


def fold_layer(layer: nn.Module, name: str) -> nn.Module:
    """A layer or block `name` of a trained network, for inference.

    Raises: ValueError if it is none that is known here.
    """
    match layer:
        case BasicBlock() | SEWBlock() | PreActBlock():
            return _fold_residual_block(layer, name)
        case ConvNormLIF():
            return Block({"conv": fold_convolution(layer), "neurons": _neurons_of(layer, name)})
        case LIFLayer():
            return _neurons_of(layer, name)
        case AveragePool():
            return nn.AvgPool2d(layer.kernel_size)
        case MaxPool():
            return nn.MaxPool2d(layer.kernel_size, layer.stride, layer.padding)
        case Linear():
            return _copy_linear(layer)
    raise ValueError(
        f"cannot fold {name} ({type(layer).__name__}): expected a layer or block of model/"
    )


def _fold_residual_block(block: BasicBlock | SEWBlock | PreActBlock, name: str) -> Block:
    main, shortcut = {}, {}
    if isinstance(block, PreActBlock):
        main["before"] = _neurons_of(block.fire, f"{name}.fire")
    main["unit1"] = fold_convolution(block.unit1)
    main["between"] = _neurons_of(block.unit1, f"{name}.unit1")
    main["unit2"] = fold_convolution(block.unit2)
    after = _neurons_of(block.unit2, f"{name}.unit2")
    if isinstance(block, SEWBlock):  # fires before the addition
        main["end"], after = after, None
    if block.shortcut is not None:
        shortcut["shortcut"] = fold_convolution(block.shortcut)
        neurons = _neurons_of(block.shortcut, f"{name}.shortcut")
        if neurons is not None:
            shortcut["shortcut_neurons"] = neurons
    return Block(main, shortcut, after)


def _neurons_of(layer: nn.Module, name: str) -> Neurons | None:
    """The neurons that layer `name` ends in, if it does."""
    return Neurons(name, layer.neuron) if isinstance(layer, ConvNormLIF | LIFLayer) else None


@torch.no_grad()
def fold_convolution(layer: ConvNorm) -> nn.Conv2d:
    """Convolution and batch norm (running statistics) as one convolution, computed in float64."""
    conv, norm = layer.conv, layer.norm
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        *Convolution.of(conv).geometry,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
    )
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = 0.0 if conv.bias is None else conv.bias.double()
    folded.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
    folded.bias.copy_(scale * (bias - norm.running_mean.double()) + norm.bias.double())
    return folded


def _copy_linear(layer: nn.Linear) -> nn.Linear:
    weight = layer.weight
    plain = nn.Linear(*weight.shape[::-1], device=weight.device, dtype=weight.dtype)
    plain.load_state_dict(layer.state_dict())
    return plain
