"""Neurons on a CPU whose spikes are bytes; the work is done by `neurons.h`.

Shapes: T time steps, B batch, C channels, ... any further dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.functional import Neuron
from model.kernel.record import Fired, Maps, Source, layout_of
from model.kernel.sparse.library import is_available


def can_fire(current: Tensor, neuron: Neuron) -> bool:
    """Whether `fire` takes these: fp32 or fp64 on a CPU, a reset of `Neuron`'s own, a compiler."""
    return (
        current.device.type == "cpu"
        and current.dtype in (torch.float32, torch.float64)
        and type(neuron) is Neuron
        and is_available()
    )


def can_take(source: Source, neuron: Neuron | None) -> bool:
    """Whether `fill` takes these, if bytes are wanted: what is added is no less plain."""
    current, residual = source.current, source.residual
    return (
        neuron is not None
        and can_fire(current.values, neuron)
        and (current.scale is not None or residual is None or residual.scale is None)
    )


def can_fill(source: Source, neuron: Neuron | None, fired: Fired) -> bool:
    """Whether `fill` takes these and fills what is wanted."""
    dtype = source.current.values.dtype
    return (
        fired.train.dtype == torch.uint8
        and can_take(source, neuron)
        and all(maps is None or maps.dtype == dtype for maps in fired[1:4])
    )


def fill(source: Source, neuron: Neuron, fired: Fired) -> None:
    """`reference.fire` into the memory of `Source.new_fired`, where `can_fill`."""
    constant = len(source.current.values) == 1  # its own mean, which is there already
    _fire(source, neuron, fired._replace(mean_current=None) if constant else fired)


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
    added = None if residual is None else Maps(residual.detach())
    source = Source(Maps(current.detach()), added)
    fired = source.new_fired(neuron, T, torch.uint8, sums=False)
    after = torch.empty_like(current[0], memory_format=layout_of(current[0]))
    if potential is not None:
        after.copy_(potential)
    _fire(source, neuron, fired, after, at_rest=potential is None)
    return fired.train, after


def _fire(
    source: Source,
    neuron: Neuron,
    fired: Fired,
    potential: Tensor | None = None,
    *,
    at_rest: bool = True,
) -> None:
    frame = source.current.values[0]
    layout = layout_of(frame)
    channels_inside = frame.dim() < 3 or layout is torch.channels_last
    (current, scale, shift), dtype = source.current, frame.dtype
    residual, residual_scale, residual_shift = source.residual or (None, None, None)
    if residual_shift is not None:
        shift = shift + residual_shift

    def laid_out(maps: Tensor | None) -> Tensor | None:
        return None if maps is None else maps.flatten(0, 1).contiguous(memory_format=layout)

    def values(own: Tensor | None) -> Tensor | None:
        return None if own is None else own.to(dtype).contiguous()

    decay, threshold, v_reset, detach_reset = neuron
    torch.ops.spiking_cpu.fire(
        laid_out(current),
        values(scale),
        values(shift),
        laid_out(residual),
        values(residual_scale),
        1 if channels_inside else frame.shape[2:].numel(),
        at_rest,
        fired.train,
        potential,
        fired.mean_current,
        fired.rate,
        fired.eligibility,
        fired.counts,
        len(fired.train),
        decay,
        threshold,
        v_reset,
        detach_reset,
    )
