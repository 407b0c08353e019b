"""How long launches take on the device alone: replayed as one CUDA graph, timed by its events."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmark.speed.measure import wait_for_device
from experiment.train.graph import record_on_gpu

WARM_UP = 2


def launched_seconds(run: Callable[[], object], device: str) -> float:
    """Of all that `run` launches, so that nothing waits for the host; on a CPU by the clock."""
    if device != "cpu":
        run, _ = record_on_gpu(run)
    for _ in range(WARM_UP):
        run()
    if device == "cpu":
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun
    begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begun.record()
    run()
    ended.record()
    wait_for_device(device)
    return 1e-3 * begun.elapsed_time(ended)
