"""A network as a graph of the Neuromorphic Intermediate Representation (NIR, nir.readthedocs.io).

NIR's LIF neuron is  tau dv/dt = (v_leak - v) + R I,  spike and v <- v_reset at the threshold. With
time step dt and Euler's method it is ours, v_t = decay u_{t-1} + x_t, for

    tau = dt / (1 - decay),   R = 1 / (1 - decay),   v_leak = 0;   decay = 1: the IF node, R = 1/dt

NIR fires where v > threshold, this project where v >= threshold; they part only where a potential
hits the threshold exactly. NIR has no soft reset and no max pooling.

Edges that meet in a node add up, which is the residual addition. The graph takes the image or
frame of each time step and gives that step's logits; the answer is their mean over T steps.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nir
import numpy as np
import torch
from torch import Tensor, nn

from model.folded import FoldedNetwork, Neurons
from model.functional import Neuron
from util.atomic_file import write_atomically

TIME_STEP = 1e-4  # seconds; the NIR tools' usual one


def refuse_inexpressible(net: FoldedNetwork) -> None:
    """ValueError that says why NIR cannot express the network, if it cannot."""
    if len(net.stem) > 1:
        raise ValueError(
            "NIR has no max pooling, which the stem of PreAct networks has: train resnet18 or "
            "resnet19 to export to NIR"
        )
    if _neuron(net).v_reset is None:
        raise ValueError(
            "NIR cannot express a soft reset (its neurons are set to v_reset after a spike, here "
            "the threshold is subtracted): train with --v_reset 0 to export to NIR"
        )


def to_nir(net: FoldedNetwork, *, height: int, width: int) -> nir.NIRGraph:
    """The graph for images of height x width pixels.

    Raises: ValueError for what NIR cannot express.
    """
    refuse_inexpressible(net)
    graph = _Graph(torch.zeros(1, net.in_channels, height, width, dtype=net.stem.conv.weight.dtype))
    source = graph.fire("stem_neurons", net.stem_neurons, graph.convolve("stem", net.stem.conv))
    for i, stage in enumerate(net.stages):
        for j, block in enumerate(stage):
            name, inputs = f"stages_{i}_{j}", []
            if isinstance(block.shortcut, nn.Identity):
                inputs.append(source)
            else:
                inputs.append(graph.convolve(f"{name}_shortcut", block.shortcut, source))
            between = graph.convolve(f"{name}_unit1", block.unit1, source)
            between = graph.fire(f"{name}_between", block.between, between)
            inputs.append(graph.convolve(f"{name}_unit2", block.unit2, between))
            source = graph.fire(f"{name}_after", block.after, *inputs)
    source = graph.pool("pool", source)
    for i, layer in enumerate(net.classifier):
        if isinstance(layer, Neurons):
            source = graph.fire(f"classifier_{i}", layer, source)
        else:
            source = graph.connect(f"classifier_{i}", layer, source)
    return graph.finish(source)


def write_nir(graph: nir.NIRGraph, path: Path) -> None:
    """Write the graph (HDF5), whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = os.path.join(folder, "graph.nir")
        nir.write(temporary, graph)
        write_atomically(path, Path(temporary).read_bytes())


class _Graph:
    """Nodes and edges so far; `maps` holds a tensor of each node's output shape, batch 1."""

    def __init__(self, image: Tensor):
        self.maps = {"input": image}
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input(np.array(image.shape[1:]))}
        self.edges: list[tuple[str, str]] = []

    def add(self, name: str, node: nir.NIRNode, maps: Tensor, sources: tuple[str, ...]) -> str:
        self.nodes[name], self.maps[name] = node, maps
        self.edges += [(source, name) for source in sources]
        return name

    @torch.no_grad()
    def convolve(self, name: str, layer: nn.Conv2d, source: str = "input") -> str:
        x = self.maps[source]
        node = nir.Conv2d(
            input_shape=tuple(x.shape[-2:]), weight=_array(layer.weight), bias=_array(layer.bias),
            stride=layer.stride, padding=layer.padding, dilation=layer.dilation,
            groups=layer.groups,
        )  # fmt: skip
        return self.add(name, node, layer(x), (source,))

    def fire(self, name: str, layer: Neurons, *sources: str) -> str:
        maps = self.maps[sources[0]]
        return self.add(name, _neurons(layer.neuron, tuple(maps.shape[1:])), maps, sources)

    def pool(self, name: str, source: str) -> str:
        """The mean over the map, (C, H, W) -> (C,)."""
        x = self.maps[source]
        window = np.array(x.shape[-2:])
        node = nir.AvgPool2d(kernel_size=window, stride=window, padding=np.zeros(2, dtype=int))
        pooled = self.add(name, node, x.mean((-2, -1), keepdim=True), (source,))
        shape = {"input": np.array([x.shape[1], 1, 1])}
        flatten = nir.Flatten(input_type=shape, start_dim=0, end_dim=-1)
        return self.add(f"{name}_flatten", flatten, x.mean((-2, -1)), (pooled,))

    @torch.no_grad()
    def connect(self, name: str, layer: nn.Linear, source: str) -> str:
        node = nir.Affine(weight=_array(layer.weight), bias=_array(layer.bias))
        return self.add(name, node, layer(self.maps[source]), (source,))

    def finish(self, source: str) -> nir.NIRGraph:
        maps = self.maps[source]
        self.add("output", nir.Output(np.array(maps.shape[1:])), maps, (source,))
        return nir.NIRGraph(self.nodes, self.edges)


def _neurons(neuron: Neuron, shape: tuple[int, ...]) -> nir.NIRNode:
    common = {"v_threshold": np.full(shape, neuron.threshold),
              "v_reset": np.full(shape, float(neuron.v_reset))}  # fmt: skip
    if neuron.decay == 1:
        return nir.IF(r=np.full(shape, 1 / TIME_STEP), **common)
    resistance = 1 / (1 - neuron.decay)
    return nir.LIF(
        tau=np.full(shape, TIME_STEP * resistance), r=np.full(shape, resistance),
        v_leak=np.zeros(shape), **common,
    )  # fmt: skip


def _neuron(net: FoldedNetwork) -> Neuron:
    return net.neurons()[0].neuron


def _array(parameter: Tensor) -> np.ndarray:
    return parameter.detach().cpu().numpy()
