"""What the hot functions take and return: one record each way, the same for every implementation.

Shapes: T time steps, B batch, C channels, ... any further dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from model.functional import MAX_COUNT, Average, Neuron, accumulation_dtype, per_channel


class Maps(NamedTuple):
    """scale * values + shift: maps over time, with an affine map that is still to be applied.

    values: (T, B, C, ...), or (1, B, C, ...) if constant in time.
    scale, shift: (C,), or both None for 1 and 0.
    """

    values: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None

    def mapped(self) -> Tensor:
        """The values with their affine map applied."""
        maps, scale, shift = self
        if scale is None:
            return maps
        return maps * per_channel(scale, maps, 2) + per_channel(shift, maps, 2)


class Source(NamedTuple):
    """The input current of a layer's neurons, current + residual.

    residual: likewise constant in time or not; its values may be bytes that count spikes.
    reusable: whether the memory of current may be taken for the result.
    """

    current: Maps
    residual: Maps | None = None
    reusable: bool = False

    def place(
        self, neuron: Neuron | None, T: int, spike_dtype: torch.dtype | None
    ) -> tuple[int, torch.dtype, bool]:
        """(time steps, dtype, is_in_place) of the train that neurons, or none, make of this.

        is_in_place: whether it takes the memory of current, whose values are then lost.
        """
        values, residual = self.current.values, self.residual
        own_steps = max(len(values), 1 if residual is None else len(residual.values))
        steps = own_steps if neuron is None else T
        dtype = values.dtype if neuron is None else spike_dtype or values.dtype
        fits = 1 < len(values) == steps and dtype == values.dtype and _is_dense(values)
        return steps, dtype, self.reusable and fits

    def new_fired(
        self, neuron: Neuron | None, T: int, spike_dtype: torch.dtype | None, sums: bool
    ) -> Fired:
        """Memory for what a kernel is to make of this, each map laid out like the current's.

        A current that is constant in time is its own mean, which no kernel fills in.
        """
        values = self.current.values
        steps, dtype, is_in_place = self.place(neuron, T, spike_dtype)
        train = values if is_in_place else _new_maps(values, steps, dtype)
        if not sums:
            return Fired(train)
        wide = accumulation_dtype(values.dtype)
        kept = self.kept_dtype(neuron)
        mean = values[0].to(kept) if len(values) == 1 else _new_maps(values, 1, kept)[0]
        if neuron is None:
            return Fired(train, mean)
        rate, eligibility = (_new_maps(values, 1, of)[0] for of in (wide, kept))
        counts = _new_maps(values, 1, torch.uint8)[0] if T <= MAX_COUNT else None
        return Fired(train, mean, rate, eligibility, counts)

    def kept_dtype(self, neuron: Neuron | None) -> torch.dtype:
        """That in which the mean current and the eligibility are stored, however they are summed.

        Without neurons the mean current is not only kept: the rate is computed from it.
        """
        dtype = self.current.values.dtype
        return accumulation_dtype(dtype) if neuron is None else dtype


class Fired(NamedTuple):
    """What neurons make of their source.

    train: spikes (T, B, C, ...); without neurons the source's sum, over its own time steps.
    mean_current: (B, C, ...), the time mean of the current's values, before their affine map.
    rate, eligibility: (B, C, ...), None without neurons.
    counts: (B, C, ...), bytes, T times the rate; None without neurons and for T > MAX_COUNT.
    Where spikes alone are wanted, everything else is None. Sums are fp32 or better and so is rate;
    mean_current and eligibility are stored in `Source.kept_dtype`.
    """

    train: Tensor
    mean_current: Tensor | None = None
    rate: Tensor | None = None
    eligibility: Tensor | None = None
    counts: Tensor | None = None

    def each(self, view: Callable[[Tensor], Tensor]) -> Fired:
        """A view of every map, each a train: one (B, C, ...) is shown to it as (1, B, C, ...)."""
        train, *others = self
        return Fired(view(train), *(None if m is None else view(m[None])[0] for m in others))


class NormState(NamedTuple):
    """What a batch norm holds: parameters, and the buffers that training moves.

    gamma, beta, running_mean, running_var: (C,); batches: (), integers, that it was trained on.
    """

    gamma: Tensor
    beta: Tensor
    running_mean: Tensor
    running_var: Tensor
    batches: Tensor
    eps: float
    momentum: float


class Normalisation(NamedTuple):
    """What the backward of batch norm takes: gamma, mean and inverse_std, all (C,).

    from_batch: whether mean and inverse_std depend on the batch (else: running statistics).
    average: for a batch that several processes share, the mean of a tensor over them.
    """

    gamma: Tensor
    mean: Tensor
    inverse_std: Tensor
    from_batch: bool
    average: Average | None = None


class Gradients(NamedTuple):
    """dL/d of what a layer's neurons are made of.

    source: (B, C, ...), of the sum of current and residual; None where it is not wanted.
    current: (B, C, ...), of the mean current before its normalisation; in the dtype asked for.
    gamma, beta: (C,).
    """

    source: Tensor | None
    current: Tensor
    gamma: Tensor
    beta: Tensor


def firing(fill: Callable[[Source, Neuron | None, Fired], None]) -> Callable[..., Fired]:
    """`reference.fire`, its signature included, by a kernel that fills `Source.new_fired`."""

    def fire(
        source: Source,
        neuron: Neuron | None,
        T: int,
        *,
        spike_dtype: torch.dtype | None = None,
        sums: bool = True,
    ) -> Fired:
        fired = source.new_fired(neuron, T, spike_dtype, sums)
        fill(source, neuron, fired)
        return fired

    return fire


def layout_of(frame: Tensor) -> torch.memory_format:
    """How maps (B, C, ...) lie in memory."""
    last = frame.dim() == 4 and frame.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _is_dense(values: Tensor) -> bool:
    """Whether maps (T, B, C, ...) fill their memory, as kernels write it."""
    frame = values[0]
    return values.stride(0) == frame.numel() and frame.is_contiguous(memory_format=layout_of(frame))


def _new_maps(values: Tensor, steps: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised (steps, B, C, ...), each step laid out like those of values."""
    frame = values[0]
    shape = (steps * frame.shape[0], *frame.shape[1:])
    maps = torch.empty(shape, dtype=dtype, device=frame.device, memory_format=layout_of(frame))
    return maps.unflatten(0, (steps, -1))
