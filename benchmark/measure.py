"""How the benchmarks measure: interleaved medians, bytes kept for backward, peak memory."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


def synchronise(device: str) -> None:
    """Wait for the device's queue, if it has one."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def interleaved_seconds(
    steps: Sequence[Callable[[], None]], *, repeats: int, warmup: int, device: str
) -> list[list[float]]:
    """Seconds of each step, `repeats` each, measured in rounds of one run per step.

    A drift of the machine's speed then falls on all of them alike.
    """
    for _ in range(warmup):
        for step in steps:
            step()
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(repeats):
        for step, own in zip(steps, seconds, strict=True):
            synchronise(device)
            start = time.perf_counter()
            step()
            synchronise(device)
            own.append(time.perf_counter() - start)
    return seconds


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def saved_bytes(forward: Callable[[], Tensor], parameters: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages that autograd keeps for backward, parameters excluded."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address recurs

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def peak_bytes(step: Callable[[], None], device: str) -> int:
    """The most bytes that the step allocates at one time, beyond those that existed before it."""
    if device.startswith("cuda"):
        synchronise(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        step()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    current = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        current += event.nbytes()
        peak = max(peak, current)
    return peak


def machine(device: str) -> dict[str, str | int]:
    """What a table of measurements says about where it was made."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load average": round(os.getloadavg()[0], 1),  # 1.0 is this process alone
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    """The processor's name as the operating system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
