"""A network as a graph of the Neuromorphic Intermediate Representation (NIR, nir.readthedocs.io).

NIR's LIF neuron is  tau dv/dt = (v_leak - v) + R I,  spike and v <- v_reset at the threshold. With
time step dt and Euler's method it is ours, v_t = decay u_{t-1} + x_t, for

    tau = dt / (1 - decay),   R = 1 / (1 - decay),   v_leak = 0;   decay = 1: the IF node, R = 1/dt

NIR fires where v > threshold, this project where v >= threshold; they part only where a potential
hits the threshold exactly. NIR has no soft reset and no max pooling.

Edges that meet in a node add up, which is the residual addition. The graph takes the image or
frame of each time step and gives that step's logits; the answer is their mean over T steps. NIR
has no time step of its own: dt, T and the read-out are in the graph's metadata.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from model.functional import Neuron
from model.inference.folded import Block, FoldedNetwork, Neurons
from util.file.atomic import write_atomically

TIME_STEP = 1e-4  # seconds; the NIR tools' usual one


def to_nir(net: FoldedNetwork, *, height: int, width: int) -> nir.NIRGraph:
    """The graph for images of height x width pixels.

    Raises: ValueError for what NIR cannot express.
    """
    if any(isinstance(module, nn.MaxPool2d) for module in net.modules()):
        raise ValueError(
            "NIR has no max pooling, which the published stems of PreAct- and SEW-ResNets have: "
            "train with --stem small, or another arch, to export to NIR"
        )
    if net.neurons()[0].neuron.v_reset is None:
        raise ValueError(
            "NIR cannot express a soft reset (its neurons are set to v_reset after a spike, here "
            "the threshold is subtracted): train with --v_reset 0 to export to NIR"
        )
    graph = _Graph(torch.zeros(1, net.in_channels, height, width, dtype=net.stem.conv.weight.dtype))
    sources = graph.add_layer("stem", net.stem.conv, ("input",))
    if net.stem_neurons is not None:
        sources = graph.add_layer("stem_neurons", net.stem_neurons, sources)
    for i, stage in enumerate(net.stages):
        for j, block in enumerate(stage):
            sources = graph.add_layer(f"stages_{i}_{j}", block, sources)
    sources = graph.pool_to_side(net.pooled, sources)
    for i, layer in enumerate(net.classifier):
        sources = graph.add_layer(f"classifier_{i}", layer, sources)
    return graph.finish(sources)


def write_nir(graph: nir.NIRGraph, description: dict[str, Any], path: Path) -> None:
    """Write the graph (HDF5), whole or not at all; dt and the description are in its metadata."""
    T, read_out = description["network"]["T"], description["read_out"]
    about = json.dumps(description)
    graph.metadata = {"dt": TIME_STEP, "T": T, "read_out": read_out, "description": about}
    content = io.BytesIO()
    nir.write(content, graph)
    write_atomically(path, content.getvalue())


Sources = tuple[str, ...]  # the nodes whose outputs add up to what a layer reads


class _Graph:
    """Nodes and edges so far; `maps` holds a tensor of each node's output shape, batch 1."""

    def __init__(self, image: Tensor):
        self.maps = {"input": image}
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(image.shape[1:]))}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: nir.NIRNode, maps: Tensor, sources: Sources) -> Sources:
        self.nodes[name], self.maps[name] = node, maps
        self.edges += [(source, name) for source in sources]
        return (name,)

    @torch.no_grad()
    def add_layer(self, name: str, layer: nn.Module, sources: Sources) -> Sources:
        """Add what a folded layer consists of; returns the nodes that hold its output."""
        if isinstance(layer, Block):
            return self._add_block(name, layer, sources)
        x = self.maps[sources[0]]
        match layer:
            case Neurons():
                node, maps = _neurons(layer.neuron, tuple(x.shape[1:])), x
            case nn.Conv2d():
                node, maps = _convolution(layer, x), layer(x)
            case nn.AvgPool2d():
                node, maps = _average_pool(np.full(2, layer.kernel_size)), layer(x)
            case nn.Linear():
                node = nir.Affine(weight=_array(layer.weight), bias=_array(layer.bias))
                maps = layer(x)
        return self.add(name, node, maps, sources)

    def _add_block(self, name: str, block: Block, sources: Sources) -> Sources:
        out: Sources = ()
        for layers in filter(lambda names: names is not None, (block.main, block.shortcuts)):
            end = sources
            for layer in layers:
                end = self.add_layer(f"{name}_{layer}", block.get_submodule(layer), end)
            out += end
        return out if block.after is None else self.add_layer(f"{name}_after", block.after, out)

    def pool_to_side(self, side: int, sources: Sources) -> Sources:
        """Means over side x side parts of the map, flattened: (C, H, W) -> (C * side * side,).

        Raises: ValueError if the map has no such parts of one size.
        """
        x = self.maps[sources[0]]
        window = np.array(x.shape[-2:]) // side
        if (window * side != x.shape[-2:]).any():
            raise ValueError(
                f"NIR pools by windows of one size, which do not divide maps of {x.shape[-2]}x"
                f"{x.shape[-1]} into {side}x{side}: train on another image size to export to NIR"
            )
        maps = torch.zeros(*x.shape[:2], side, side, dtype=x.dtype)
        pooled = self.add("pool", _average_pool(window), maps, sources)
        # From the end, since snnTorch counts a batch that NIR's shapes do not have.
        flatten = nir.Flatten(
            input_type={"input": np.array(maps.shape[1:])}, start_dim=-3, end_dim=-1
        )
        return self.add("pool_flatten", flatten, maps.flatten(1), pooled)

    def finish(self, sources: Sources) -> nir.NIRGraph:
        maps = self.maps[sources[0]]
        self.add("output", nir.Output(np.array(maps.shape[1:])), maps, sources)
        return nir.NIRGraph(self.nodes, self.edges)


def _convolution(layer: nn.Conv2d, x: Tensor) -> nir.NIRNode:
    alike = {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
    weight, bias = _array(layer.weight), _array(layer.bias)
    return nir.Conv2d(input_shape=tuple(x.shape[-2:]), weight=weight, bias=bias, **alike)


def _average_pool(window: np.ndarray) -> nir.NIRNode:
    return nir.AvgPool2d(kernel_size=window, stride=window, padding=np.zeros(2, dtype=int))


def _neurons(neuron: Neuron, shape: tuple[int, ...]) -> nir.NIRNode:
    values = {"v_threshold": neuron.threshold, "v_reset": float(neuron.v_reset)}
    if neuron.decay == 1:
        kind, values["r"] = nir.IF, 1 / TIME_STEP
    else:
        resistance = 1 / (1 - neuron.decay)
        kind = nir.LIF
        values |= {"r": resistance, "tau": TIME_STEP * resistance, "v_leak": 0.0}
    return kind(**{name: np.full(shape, value) for name, value in values.items()})


def _array(parameter: Tensor) -> np.ndarray:
    return parameter.detach().cpu().numpy()
