"""Convolutions of spike trains on a CPU that skip silent inputs: exact weights, no multiplications.

A spike is 0 or 1, so that a convolution only adds up the weights of the inputs that fire; where
few do, that takes less time than a dense convolution. The work is done by `spike_convolution.cpp`.
Where that cannot be compiled a line says so, once, and `can_skip` is False.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from model import compiled_operator

SOURCE = Path(__file__).with_suffix(".cpp")


def can_skip(
    spikes: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> bool:
    """Whether `convolve` takes these; arguments as of `torch.nn.functional.conv2d`.

    Not on other devices than a CPU, with groups or dilation, under autocast, in other dtypes than
    fp32 and fp64, or without a compiler.
    """
    return (
        spikes.device.type == "cpu"
        and dilation == (1, 1)
        and groups == 1
        and weight.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and is_available()
    )


def convolve(
    spikes: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Tensor:
    """`conv2d` of spikes, outside the graph, where `can_skip` says so.

    Args: spikes (N, Ci, H, W), bytes that are 0 or 1; weight (C, Ci, k, k), bias (C,) or None.
    Returns: (N, C, H', W') in the weight's dtype.
    """
    run = torch.ops.spiking_cpu.spike_convolution
    return run(spikes, weight.detach(), None if bias is None else bias.detach(), stride, padding)


@torch.compiler.assume_constant_result
def is_available() -> bool:
    """Whether the compiled operator can be used; compiles it at the first call."""
    return _load()


@cache
def _load() -> bool:
    reason = compiled_operator.load(SOURCE)
    if reason is not None:
        print(f"convolutions of spikes are dense, and slower than on numbers: {reason}")
        return False
    _register_fake()
    return True


@cache
def _register_fake() -> None:
    torch.library.register_fake("spiking_cpu::spike_convolution", _shape_of_result)


def _shape_of_result(spikes, weight, bias, stride, padding):
    sizes = (
        (size + 2 * p - k) // s + 1
        for size, k, s, p in zip(spikes.shape[2:], weight.shape[2:], stride, padding, strict=True)
    )
    shape = (spikes.shape[0], weight.shape[0], *sizes)
    options = {"dtype": weight.dtype, "device": weight.device}
    return torch.empty(shape, memory_format=torch.channels_last, **options)
