"""What can be known of the recording of a CUDA graph where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from experiment.train.graph import WARM_UP, Replay, record_on_gpu


def record_here(net: nn.Module, log: list[str]) -> Callable[[Callable[[], Any]], tuple]:
    """A `record` of `GraphedPass`: its replay runs the function again.

    What that returns and the gradients go into the tensors of the recording, as a graph's do. The
    log is told of recordings and replays.
    """

    def record(run: Callable[[], Any]) -> tuple[Replay, Any]:
        for _ in range(WARM_UP):
            run()
        before = [buffer.clone() for buffer in net.buffers()]
        kept = run()  # recording computes nothing on a GPU: undo what it did here
        with torch.no_grad():
            for buffer, value in zip(net.buffers(), before, strict=True):
                buffer.copy_(value)
        gradients = [p.grad for p in net.parameters()]
        log.append("recorded")

        def replay() -> None:
            log.append("replayed")
            result = run()
            for mine, p in zip(gradients, net.parameters(), strict=True):
                mine.copy_(p.grad)
                p.grad = None  # a graph knows nothing of the attribute
            for mine, new in zip(tree_leaves(kept), tree_leaves(result), strict=True):
                if new is not None:
                    mine.copy_(new)

        return replay, kept

    return record


def recording_on(device: str, net: nn.Module) -> Callable[[Callable[[], Any]], tuple[Replay, Any]]:
    """A `record` of `GraphedPass` for a network on this device: on a CPU the stand-in."""
    return record_here(net, []) if device == "cpu" else record_on_gpu
