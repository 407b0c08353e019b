"""How the benchmarks measure: medians of interleaved rounds, bytes kept for backward, peaks.

A step is given as its stages: a name and a function each, to be run in turn.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from util.util import processor_name

STAGE = "benchmark stage"
MEBIBYTE = 2**20

Stage = tuple[str, Callable[[], object]]
Stages = Callable[[], Iterable[Stage]]


class Rounds(NamedTuple):
    """How often a step is timed, and how often it is run before that."""

    repeats: int
    warmup: int = 1


def wait_for_device(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def undivided(call: Callable[[], object]) -> Stages:
    """A call as a step of one stage: nothing waits for the device in the middle of it."""
    return lambda: [("whole", call)]


def median_seconds(steps: Sequence[Stages], rounds: Rounds, device: str) -> list[dict[str, float]]:
    """Medians over the rounds: of a whole step as "step", and of each of its stages by name.

    All steps are run once in every round, so that a drift of the machine's speed falls on all of
    them alike, and ratios are steadier than seconds. A stage that comes again in a step adds up.
    """
    measured: list[list[dict[str, float]]] = [[] for _ in steps]
    for _ in range(rounds.warmup + rounds.repeats):
        for stages, own in zip(steps, measured, strict=True):
            own.append(_seconds_of(stages(), device))
    timed = [own[rounds.warmup :] for own in measured]
    return [{name: median(s[name] for s in own) for name in own[0]} for own in timed]


def _seconds_of(stages: Iterable[Stage], device: str) -> dict[str, float]:
    seconds: Counter[str] = Counter()
    for name, run in stages:
        wait_for_device(device)
        start = time.perf_counter()
        run()
        wait_for_device(device)
        seconds[name] += time.perf_counter() - start
    return {**seconds, "step": sum(seconds.values())}


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


def stage_peaks(stages: Iterable[Stage], device: str) -> dict[str, int]:
    """Run the stages in turn; the most bytes held in each, beyond those before the first.

    A name that comes again has the larger of its peaks.
    """
    peaks: Counter[str] = Counter()
    if device.startswith("cuda"):
        wait_for_device(device)
        before = torch.cuda.memory_allocated(device)
        for name, run in stages:
            torch.cuda.reset_peak_memory_stats(device)
            run()
            wait_for_device(device)
            peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated(device) - before)
        return peaks
    names: list[str] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as record:
        for name, run in stages:
            names.append(name)
            with record_function(STAGE):
                run()
    number, held = -1, 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == STAGE:
            number += 1
        elif event.name() == "[memory]":
            held += event.nbytes()
        if number >= 0:
            peaks[names[number]] = max(peaks[names[number]], held)
    return peaks


def machine(device: str) -> dict[str, str | int]:
    """What a table of measurements says about where it was made."""
    found: dict[str, str | int] = {
        "processor": processor_name(),
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


def machine_in_words(found: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found.items())
