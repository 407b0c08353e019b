"""The hand-written kernels as custom operators: one schema, an implementation for each device.

An operator is opaque to torch.compile, so that a compiled block holds the same kernels as an eager
one, and the device of its arguments picks the implementation: `kernel_cpu`, `kernel_triton`, or
`functional` on a GPU where Triton is missing. An operator's result never shares memory with its
arguments; the wrappers at the end of the file give them the signatures of `functional`.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

from model import functional, kernel_cpu
from model.functional import Fired, Neuron


@cache
def _gpu() -> ModuleType:
    if find_spec("triton") is None:
        print("Triton is not installed: neurons run as plain PyTorch operations, more slowly")
        return functional
    from model import kernel_triton

    return kernel_triton


def _kernels(tensor: Tensor) -> ModuleType:
    return kernel_cpu if tensor.device.type == "cpu" else _gpu()


def _layout(maps: Tensor) -> torch.memory_format:
    """That of maps (B, C, ...)."""
    last = maps.dim() == 4 and maps.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _maps(current: Tensor, steps: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised (steps, B, C, ...), or fp32-or-better (B, C, ...), laid out like current."""
    frame = current[0]
    layout = _layout(frame)
    if steps is None:
        dtype = functional.accumulation_dtype(current.dtype)
        return torch.empty_like(frame, dtype=dtype, memory_format=layout)
    maps = frame.new_empty((steps * frame.shape[0], *frame.shape[1:]), dtype=dtype)
    return maps.contiguous(memory_format=layout).unflatten(0, (steps, -1))


@torch.library.custom_op("spiking::fire", mutates_args=())
def _fire(
    current: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None,
    residual_scale: Tensor | None, residual_shift: Tensor | None,
    steps: int, decay: float, threshold: float, v_reset: float | None, detach_reset: bool,
    compact: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    neuron = Neuron(decay, threshold, v_reset, detach_reset)
    fired = _kernels(current).norm_lif_rate(
        current, scale, shift, residual, steps, neuron, False, residual_scale, residual_shift,
        compact,
    )  # fmt: skip
    if current.shape[0] == 1:  # the mean is current itself; the caller has it
        fired = fired._replace(mean_current=current.new_empty(0))
    return tuple(fired)


@_fire.register_fake
def _(
    current, scale, shift, residual, residual_scale, residual_shift, steps, decay, threshold,
    v_reset, detach_reset, compact,
):  # fmt: skip
    mean = current.new_empty(0) if current.shape[0] == 1 else _maps(current)
    spikes = _maps(current, steps, functional.spike_dtype(current, compact))
    return spikes, _maps(current), _maps(current), mean


@torch.library.custom_op("spiking::fire_", mutates_args=("current",))
def _fire_in_place(
    current: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None,
    residual_scale: Tensor | None, residual_shift: Tensor | None,
    decay: float, threshold: float, v_reset: float | None, detach_reset: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    neuron = Neuron(decay, threshold, v_reset, detach_reset)
    steps = current.shape[0]
    fired = _kernels(current).norm_lif_rate(
        current, scale, shift, residual, steps, neuron, True, residual_scale, residual_shift
    )
    if fired.spikes.data_ptr() != current.data_ptr():
        current.copy_(fired.spikes)
    return tuple(fired[1:])


@_fire_in_place.register_fake
def _(
    current, scale, shift, residual, residual_scale, residual_shift, decay, threshold, v_reset,
    detach_reset,
):  # fmt: skip
    return _maps(current), _maps(current), _maps(current)


@torch.library.custom_op("spiking::norm", mutates_args=())
def _norm(
    current: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None,
    residual_scale: Tensor | None, residual_shift: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    out, mean = _kernels(current).norm_rate(
        current, scale, shift, residual, False, residual_scale, residual_shift
    )
    return out, current.new_empty(0) if current.shape[0] == 1 else mean


@_norm.register_fake
def _(current, scale, shift, residual, residual_scale, residual_shift):
    steps = current.shape[0] if residual is None else max(current.shape[0], residual.shape[0])
    mean = current.new_empty(0) if current.shape[0] == 1 else _maps(current)
    return _maps(current, steps), mean


@torch.library.custom_op("spiking::norm_", mutates_args=("current",))
def _norm_in_place(
    current: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None,
    residual_scale: Tensor | None, residual_shift: Tensor | None,
) -> Tensor:  # fmt: skip
    out, mean = _kernels(current).norm_rate(
        current, scale, shift, residual, True, residual_scale, residual_shift
    )
    if out.data_ptr() != current.data_ptr():
        current.copy_(out)
    return mean


@_norm_in_place.register_fake
def _(current, scale, shift, residual, residual_scale, residual_shift):
    return _maps(current)


@torch.library.custom_op("spiking::spikes", mutates_args=())
def _spikes(x: Tensor, steps: int, decay: float, threshold: float, v_reset: float | None) -> Tensor:
    return _kernels(x).lif_spikes(x, steps, Neuron(decay, threshold, v_reset))


@_spikes.register_fake
def _(x, steps, decay, threshold, v_reset):
    return _maps(x, steps)


@torch.library.custom_op("spiking::norm_lif_backward", mutates_args=())
def _norm_lif_backward(
    grad: Tensor, eligibility: Tensor | None, y: Tensor, gamma: Tensor, mean: Tensor,
    inverse_std: Tensor, from_batch: bool, wants_sum: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    run = _kernels(grad).norm_lif_backward
    grad = grad.contiguous(memory_format=_layout(y))  # the results are laid out like y
    g, *rest = run(grad, eligibility, y, gamma, mean, inverse_std, from_batch, wants_sum)
    # Without neurons the gradient of the sum is grad itself; the caller has it.
    return grad.new_empty(0) if g is None or eligibility is None else g, *rest


@_norm_lif_backward.register_fake
def _(grad, eligibility, y, gamma, mean, inverse_std, from_batch, wants_sum):
    maps = torch.empty_like(y, dtype=grad.dtype, memory_format=_layout(y))
    g = torch.empty_like(maps) if wants_sum and eligibility is not None else grad.new_empty(0)
    return g, maps, torch.empty_like(gamma), torch.empty_like(gamma)


def norm_lif_rate(
    current: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None,
    steps: int, neuron: Neuron, overwrite: bool = False,
    residual_scale: Tensor | None = None, residual_shift: Tensor | None = None,
    compact: bool = False,
) -> Fired:  # fmt: skip
    """`functional.norm_lif_rate`."""
    sources = (current, scale, shift, residual, residual_scale, residual_shift)
    if overwrite and current.shape[0] > 1 and not compact:
        return Fired(current, *_fire_in_place(*sources, *neuron))
    spikes, rate, eligibility, mean = _fire(*sources, steps, *neuron, compact)
    return Fired(spikes, rate, eligibility, _mean(current, mean))


def norm_rate(
    current: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, overwrite: bool = False,
    residual_scale: Tensor | None = None, residual_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`functional.norm_rate`."""
    sources = (current, scale, shift, residual, residual_scale, residual_shift)
    if overwrite and current.shape[0] > 1:
        return current, _norm_in_place(*sources)
    out, mean = _norm(*sources)
    return out, _mean(current, mean)


def _mean(current: Tensor, mean: Tensor) -> Tensor:
    """The time mean that an operator returned, or left out where current is constant."""
    if current.shape[0] > 1:
        return mean
    return current[0].to(functional.accumulation_dtype(current.dtype))


def lif_spikes(x: Tensor, steps: int, neuron: Neuron) -> Tensor:
    """`functional.lif_spikes`."""
    return _spikes(x, steps, neuron.decay, neuron.threshold, neuron.v_reset)


def norm_lif_backward(
    grad: Tensor, eligibility: Tensor | None, y: Tensor, gamma: Tensor, mean: Tensor,
    inverse_std: Tensor, from_batch: bool, wants_sum: bool,
) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:  # fmt: skip
    """`functional.norm_lif_backward`."""
    g, *rest = _norm_lif_backward(
        grad, eligibility, y, gamma, mean, inverse_std, from_batch, wants_sum
    )
    if not wants_sum:
        return None, *rest
    return grad if eligibility is None else g, *rest
