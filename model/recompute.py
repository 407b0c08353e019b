"""Activation checkpointing: a layer keeps its input alone and runs again in the backward pass.

The gradients are those of the plain layer. Batch norms move their running statistics in the first
run only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from model.layer import Activation


def recomputed(module: nn.Module, *inputs: Activation) -> Activation:
    """module(*inputs), of which nothing but the inputs is kept for the backward pass."""

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), unchanged_buffers(module)

    return checkpoint(module, *inputs, use_reentrant=False, context_fn=contexts)


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
