"""Activation checkpointing: a block keeps its input alone and runs again in the backward pass.

The gradients are those of the plain block. Batch norms move their running statistics in the first
run only.

Source: arXiv 1604.06174.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.activation import Activation

if TYPE_CHECKING:
    from model.abc_model import RateModel


def checkpoint_blocks(net: RateModel) -> None:
    """Have the stem and every block of a network recompute themselves in training, in place."""
    for block in (net.stem, *chain.from_iterable(net.stages)):
        # The class's own forward, bound through partial: a deep copy is bound to the copied block.
        block.forward = partial(recomputed, block)


def recomputed(block: nn.Module, x: Activation) -> Activation:
    """block(x), of which in training nothing but x is kept for the backward pass."""
    forward = type(block).forward
    if not (block.training and torch.is_grad_enabled()):
        return forward(block, x)

    def run(*fields: object) -> Activation:
        return forward(block, type(x)(*fields))

    # Field by field: tensors inside an argument would be kept without being seen to be.
    return checkpoint(
        run, *x, use_reentrant=False, context_fn=lambda: (nullcontext(), unchanged_buffers(block))
    )


@contextmanager
def unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """On leaving, every buffer of the module is as it was on entering."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
