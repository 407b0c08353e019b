"""Neurons of inference on a CPU, whose spikes are bytes; the work is done by `neurons.cpp`."""

from __future__ import annotations

import torch
from torch import Tensor

from model.functional import Neuron
from model.kernel.record import layout_of
from model.kernel.sparse.library import is_available


def can_fire(current: Tensor, neuron: Neuron) -> bool:
    """Whether `fire` takes these: fp32 or fp64 on a CPU, a reset of `Neuron`'s own, a compiler."""
    return (
        current.device.type == "cpu"
        and current.dtype in (torch.float32, torch.float64)
        and type(neuron) is Neuron
        and is_available()
    )


def fire(
    current: Tensor,
    neuron: Neuron,
    T: int,
    *,
    residual: Tensor | None = None,
    potential: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Spikes of LIF neurons and their potentials after them, outside the graph, if `can_fire`.

    Args: current (T or 1, B, ...); residual likewise, added to it: in its dtype, or bytes;
    potential (B, ...), that before the first step; None: rest.
    Returns: (T, B, ...), bytes, and (B, ...), in current's layout.
    """
    layout = layout_of(current[0])

    def laid_out(maps: Tensor | None) -> Tensor | None:
        flat = None if maps is None else maps.detach().flatten(0, 1)
        return None if flat is None else flat.contiguous(memory_format=layout)

    B, *others = current.shape[1:]
    options = {"device": current.device, "memory_format": layout}
    train = torch.empty((T * B, *others), dtype=torch.uint8, **options)
    after = torch.empty((B, *others), dtype=current.dtype, **options)
    if potential is not None:
        after.copy_(potential)
    torch.ops.spiking_cpu.fire(
        laid_out(current), laid_out(residual), potential is None, train, after, *neuron[:3]
    )
    return train.unflatten(0, (T, B)), after
