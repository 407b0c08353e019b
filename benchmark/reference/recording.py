"""What can be known of the recording of a CUDA graph where there is no GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._pytree import tree_leaves

from experiment.train.graph import WARM_UP, Recording, Replay, record_on_gpu


def record_here(log: list[str]) -> Recording:
    """A `record` of `GraphedPass`: its replay runs the function again.

    What that returns goes into the tensors of the recording, as a graph's results do. The log is
    told of recordings and replays.
    """

    def record(run: Callable[[], Any]) -> tuple[Replay, Any]:
        for _ in range(WARM_UP):
            run()
        kept = run()
        log.append("recorded")

        def replay() -> None:
            log.append("replayed")
            for mine, new in zip(tree_leaves(kept), tree_leaves(run()), strict=True):
                if new is not None:
                    mine.copy_(new)

        return replay, kept

    return record


def recording_on(device: str) -> Recording:
    """A `record` of `GraphedPass` for this device: on a CPU the stand-in."""
    return record_here([]) if device == "cpu" else record_on_gpu
