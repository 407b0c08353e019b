"""The hand-written kernels as custom operators: one schema, an implementation for each device.

An operator is opaque to torch.compile, so that a compiled block holds the same kernels as an eager
one, and the device of its arguments picks the implementation: `cpu`, `triton`, or `reference` on a
GPU where Triton is missing. A schema knows tensors and numbers alone: hence the records are taken
apart here, and put together again. On a CPU spikes that are bytes are written by `sparse.neurons`.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from model.functional import Neuron, accumulation_dtype
from model.kernel import cpu, reference
from model.kernel.record import (
    Fired,
    Gradients,
    Maps,
    Normalisation,
    NormState,
    Source,
    layout_of,
)
from model.kernel.sparse import neurons


@cache
def _gpu() -> ModuleType:
    if find_spec("triton") is None:
        print("Triton is not installed: neurons run as plain PyTorch operations, more slowly")
        return reference
    from model.kernel import triton

    return triton


def _kernels(tensor: Tensor) -> ModuleType:
    return cpu if tensor.device.type == "cpu" else _gpu()


def fire(
    source: Source,
    neuron: Neuron | None,
    T: int,
    *,
    spike_dtype: torch.dtype | None = None,
    sums: bool = True,
) -> Fired:
    """`reference.fire`."""
    current, scale, shift = source.current
    # The hand-written kernels know the resets of `Neuron` itself, not those of a subclass.
    is_known = neuron is None or type(neuron) is Neuron
    if not is_known or _kernels(current) is reference:
        return reference.fire(source, neuron, T, spike_dtype=spike_dtype, sums=sums)
    residual, residual_scale, residual_shift = source.residual or (None, None, None)
    decay, threshold, v_reset, detach_reset = neuron or (None, None, None, True)
    fired = source.new_fired(neuron, T, spike_dtype, sums)
    _fire(
        None if fired.train is current else current,  # no operator may take one memory twice
        scale,
        shift,
        residual,
        residual_scale,
        residual_shift,
        fired.train,
        None if len(current) == 1 else fired.mean_current,
        fired.rate,
        fired.eligibility,
        fired.counts,
        decay=decay,
        threshold=threshold,
        v_reset=v_reset,
        detach_reset=detach_reset,
    )
    return fired


@torch.library.custom_op(
    "spiking::fire", mutates_args=("train", "mean_current", "rate", "eligibility", "counts")
)
def _fire(
    current: Tensor | None,  # (T or 1, B, C, ...); None: train holds it
    scale: Tensor | None,  # (C,), as are all scales and shifts
    shift: Tensor | None,
    residual: Tensor | None,  # (T or 1, B, C, ...)
    residual_scale: Tensor | None,
    residual_shift: Tensor | None,
    train: Tensor,  # (T, B, C, ...), filled, as are the next four; None: not wanted
    mean_current: Tensor | None,  # (B, C, ...), as are the next three
    rate: Tensor | None,
    eligibility: Tensor | None,
    counts: Tensor | None,
    *,
    decay: float | None,  # None: no neurons
    threshold: float | None,
    v_reset: float | None,
    detach_reset: bool,
) -> None:
    source = Source(
        Maps(train if current is None else current, scale, shift),
        None if residual is None else Maps(residual, residual_scale, residual_shift),
    )
    neuron = None if decay is None else Neuron(decay, threshold, v_reset, detach_reset)
    fired = Fired(train, mean_current, rate, eligibility, counts)
    own = neurons if neurons.can_fill(source, neuron, fired) else _kernels(train)
    own.fill(source, neuron, fired)


@_fire.register_fake
def _(*tensors, **constants):
    """Nothing is returned: what is made was given."""


def fire_backward(
    grad: Tensor,
    eligibility: Tensor | None,
    y: Tensor,
    norm: Normalisation,
    wants_source: bool,
    *,
    dtype: torch.dtype | None = None,
) -> Gradients:
    """`reference.fire_backward`, where mean is the mean of y."""
    gamma, mean, inverse_std, from_batch, _ = norm
    dtype = dtype or grad.dtype
    results = _fire_backward(
        grad, eligibility, y, gamma, mean, inverse_std, from_batch, wants_source, dtype
    )
    if not wants_source:
        return Gradients(None, *results)
    # Without neurons the gradient of the sum is grad itself, which no operator may return.
    return Gradients(grad, *results) if eligibility is None else Gradients(*results)


@torch.library.custom_op("spiking::fire_backward", mutates_args=())
def _fire_backward(
    grad: Tensor,  # (B, C, ...)
    eligibility: Tensor | None,  # (B, C, ...)
    y: Tensor,  # (B, C, ...)
    gamma: Tensor,  # (C,), as are the next two
    mean: Tensor,
    inverse_std: Tensor,
    from_batch: bool,
    wants_source: bool,
    dtype: torch.dtype,  # of the current's gradient
) -> list[Tensor]:
    """Of `Gradients`: all that is there, but the source's where it is grad."""
    norm = Normalisation(gamma, mean, inverse_std, from_batch)
    run = _kernels(grad).fire_backward
    grad = grad.contiguous(memory_format=layout_of(y))  # the results are laid out like y
    own_source = wants_source and eligibility is not None
    gradients = run(grad, eligibility, y, norm, own_source, dtype=dtype)
    return [maps for maps in gradients if maps is not None]


@_fire_backward.register_fake
def _(grad, eligibility, y, gamma, mean, inverse_std, from_batch, wants_source, dtype):
    dtypes = [grad.dtype, dtype] if wants_source and eligibility is not None else [dtype]
    maps = [torch.empty_like(y, dtype=of, memory_format=layout_of(y)) for of in dtypes]
    return [*maps, torch.empty_like(gamma), torch.empty_like(gamma)]


@torch.library.custom_op("spiking::batch_statistics", mutates_args=())
def batch_statistics(maps: Tensor) -> Tensor:
    """`reference.batch_statistics`."""
    return _kernels(maps).batch_statistics(maps)


@batch_statistics.register_fake
def _(maps):
    return maps.new_empty((2, maps.shape[1]), dtype=accumulation_dtype(maps.dtype))


def norm_constants(maps: Tensor, state: NormState, count: int) -> Tensor:
    """`reference.norm_constants`."""
    return _norm_constants(maps, *state, count)


@torch.library.custom_op(
    "spiking::norm_constants", mutates_args=("running_mean", "running_var", "batches")
)
def _norm_constants(
    maps: Tensor,  # (N, C, ...)
    gamma: Tensor,  # (C,), as are the next three
    beta: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,  # ()
    eps: float,
    momentum: float,
    count: int,
) -> Tensor:  # (4, C)
    state = NormState(gamma, beta, running_mean, running_var, batches, eps, momentum)
    return _kernels(maps).norm_constants(maps, state, count)


@_norm_constants.register_fake
def _(maps, gamma, *others):
    dtype = torch.promote_types(accumulation_dtype(maps.dtype), gamma.dtype)
    return maps.new_empty((4, maps.shape[1]), dtype=dtype)
