"""The compiled operators of this package: whether they can be used, and what they promise.

Where they cannot be compiled a line says so, once, and `is_available` is False.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from model.kernel.sparse import compiled_operator

FOLDER = Path(__file__).parent


@torch.compiler.assume_constant_result
def is_available() -> bool:
    """Whether the compiled operators can be used; compiles them at the first call."""
    return _load()


@cache
def _load() -> bool:
    reason = compiled_operator.load(FOLDER)
    if reason is not None:
        print(f"convolutions of spikes are dense: {reason}", file=sys.stderr)
        return False
    # Overriding: a process may load the library again.
    for name, result in PROMISED.items():
        torch.library.register_fake(f"spiking_cpu::{name}", result, allow_override=True)
    return True


def _convolved(spikes, weight, bias, stride, padding, most=None, arranged=None):
    like = F.conv2d(spikes.to(weight.dtype), weight, bias, stride, padding)
    return torch.empty_like(like, memory_format=torch.channels_last)


def _fired(*arguments):
    """Nothing is returned: what is made was given."""


def _differentiated(gradient, maps, weight):
    like = {"dtype": weight.dtype, "memory_format": torch.channels_last}
    return torch.empty_like(maps, **like), torch.empty_like(weight, **like)


PROMISED = {
    "spike_convolution": _convolved,
    "fire": _fired,
    "convolution_gradients": _differentiated,
}
