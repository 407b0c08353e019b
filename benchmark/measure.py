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
from torch.profiler import ProfilerActivity, profile, record_function

STAGE = "benchmark stage"


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


def stage_seconds(
    stages: Callable[[], Iterable[tuple[str, Callable[[], None]]]],
    *,
    repeats: int,
    warmup: int,
    device: str,
) -> list[dict[str, float]]:
    """Seconds of each named stage of a step, `repeats` times; a name that comes again adds up."""
    measured = []
    for _ in range(warmup + repeats):
        seconds: dict[str, float] = {}
        for name, run in stages():
            synchronise(device)
            start = time.perf_counter()
            run()
            synchronise(device)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
        measured.append(seconds)
    return measured[warmup:]


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
        return tensor.detach()  # with its graph, an operation that saves its output would never go

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


def peak_bytes(step: Callable[[], None], device: str) -> int:
    """The most bytes that the step allocates at one time, beyond those that existed before it."""
    return stage_peaks([("step", step)], device)["step"]


def stage_peaks(stages: Iterable[tuple[str, Callable[[], None]]], device: str) -> dict[str, int]:
    """Run named stages in turn; the most bytes held in each, beyond those before the first.

    A name that comes again has the larger of its peaks.
    """
    if device.startswith("cuda"):
        return _stage_peaks_on_gpu(stages, device)
    names = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        for name, run in stages:
            names.append(name)
            with record_function(STAGE):
                run()
    events = sorted(record.profiler.kineto_results.events(), key=lambda e: e.start_ns())
    stage_number, current = -1, 0
    peaks = dict.fromkeys(names, 0)
    for event in events:
        if event.name() == STAGE:
            stage_number += 1
        elif event.name() == "[memory]":
            current += event.nbytes()
        if stage_number >= 0:
            peaks[names[stage_number]] = max(peaks[names[stage_number]], current)
    return peaks


def _stage_peaks_on_gpu(
    stages: Iterable[tuple[str, Callable[[], None]]], device: str
) -> dict[str, int]:
    synchronise(device)
    before = torch.cuda.memory_allocated(device)
    peaks: dict[str, int] = {}
    for name, run in stages:
        torch.cuda.reset_peak_memory_stats(device)
        run()
        synchronise(device)
        peaks[name] = max(peaks.get(name, 0), torch.cuda.max_memory_allocated(device) - before)
    return peaks


def machine(device: str) -> dict[str, str | int]:
    """What a table of measurements says about where it was made."""
    found: dict[str, str | int] = {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "load average": round(os.getloadavg()[0], 1),  # 1.0 is this process alone
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if device.startswith("cuda"):
        import triton

        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
        found["triton"] = triton.__version__
    return found


def _processor() -> str:
    """The processor's name as the operating system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
