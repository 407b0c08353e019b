"""Convolutions of spike trains on a CPU that skip silent inputs: exact weights, no multiplications.

A spike is 0 or 1, so that a convolution only adds up the weights of the inputs that fire; where
few do, that takes less time than a dense convolution. The work is done by `spike_convolution.cpp`.
Where that cannot be compiled a line says so, once, and `can_skip` is False.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.convolution import Convolution
from model.kernel.sparse import compiled_operator

SOURCE = Path(__file__).with_suffix(".cpp")


def can_skip(spikes: Tensor, convolution: Convolution) -> bool:
    """Whether `convolve` takes these.

    Not on other devices than a CPU, with groups or dilation, under autocast, in other dtypes than
    fp32 and fp64, or without a compiler.
    """
    return (
        spikes.device.type == "cpu"
        and convolution.geometry.dilation == (1, 1)
        and convolution.geometry.groups == 1
        and convolution.weight.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and is_available()
    )


def convolve(spikes: Tensor, convolution: Convolution) -> Tensor:
    """The convolution of spikes, outside the graph, where `can_skip` says so.

    spikes: (N, Ci, H, W), bytes that are 0 or 1. Returns: (N, C, H', W') in the weight's dtype.
    """
    weight, bias, geometry = convolution
    return torch.ops.spiking_cpu.spike_convolution(
        spikes,
        weight.detach(),
        None if bias is None else bias.detach(),
        geometry.stride,
        geometry.padding,
    )


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
    # Overriding: a process may load the library again.
    torch.library.register_fake(
        "spiking_cpu::spike_convolution", _empty_result, allow_override=True
    )
    return True


def _empty_result(spikes, weight, bias, stride, padding):
    like = F.conv2d(spikes.to(weight.dtype), weight, bias, stride, padding)
    return torch.empty_like(like, memory_format=torch.channels_last)
