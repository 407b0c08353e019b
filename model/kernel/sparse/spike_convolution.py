"""Convolutions of spike trains on a CPU that skip silent inputs: exact weights, no multiplications.

A spike is 0 or 1, so that a convolution only adds up the weights of the inputs that fire; where
few do, that takes less time than a dense convolution. The work is done by `spike_convolution.h`,
which looks at the spikes and does what takes less time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.convolution import Convolution
from model.kernel.sparse.library import is_available


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


def convolve(
    counts: Tensor,
    convolution: Convolution,
    *,
    most: float | None = None,
    arranged: Tensor | None = None,
) -> Tensor:
    """The convolution of spikes, outside the graph, where `can_skip` says so.

    counts: (N, Ci, H, W), bytes; where any counts more than one spike, no input is skipped.
    most: firing rate up to which silent inputs are skipped; None: `rate_that_pays`.
    arranged: what `arrange` has made of the weight, which is not arranged again then.
    Returns: (N, C, H', W') in the weight's dtype.
    """
    weight, bias, geometry = convolution
    return torch.ops.spiking_cpu.spike_convolution(
        counts,
        weight.detach(),
        None if bias is None else bias.detach(),
        geometry.stride,
        geometry.padding,
        most,
        arranged,
    )


def arrange(weight: Tensor) -> Tensor | None:
    """A weight (C, Ci, k, k) as `convolve` reads it, which otherwise does this at each call.

    None for one so narrow that skipping never pays.
    """
    if rate_that_pays(weight) <= 0:
        return None
    return torch.ops.spiking_cpu.arrange_weight(weight.detach())


def rate_that_pays(weight: Tensor) -> float:
    """The firing rate up to which skipping silent inputs of this weight takes less time.

    Below 0 it never does, from 1 on always.
    """
    return torch.ops.spiking_cpu.rate_that_pays(weight.detach())
