"""Training steps with branches: time and memory of this project's, the published way, and BPTT.

Contestants live in one process and are timed in turn: first those that launch kernel by kernel,
then CUDA graphs, among them the eager steps that they are compared with. A graph's peak is that of
its recording. Peaks are a GPU's alone: `benchmark/step.py` has those of a CPU.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from benchmark.contestant import VARIANTS, Contestant, Workload
from benchmark.measure import interleaved_seconds, median, saved_bytes
from benchmark.part.finding import Finding, Line, Row, reason
from benchmark.part.setting import SIZES, Setting, as_fast_as_cudnn_can, as_the_mains_do
from benchmark.report import MEBIBYTE

PUBLISHED, FAIREST = "two_stage", "two_stage_channels_last_graph"
EAGER = (  # by worth: what there is no time for is left out
    PUBLISHED,
    "one_pass",
    "floor",
    "bptt",
    "one_pass_bf16",
    "floor_bf16",
    "two_stage_channels_last",
    "one_pass_bf16_backward",
)
GRAPHS = (
    "one_pass_graph",
    FAIREST,
    "one_pass_bf16_graph",
    "bptt_graph",
    "one_pass_bf16_backward_graph",
)
REFERENCES = (PUBLISHED, "one_pass", "floor", "floor_bf16")  # timed again beside the graphs
PREPARING = 0.5  # share of the time left after which no further contestant is prepared


def find_at_first_T(setting: Setting) -> Iterator[Finding]:
    """At the larger T, with the libraries' settings of the mains."""
    as_the_mains_do()
    yield from find(setting, setting.size.T[0])


def find_at_second_T(setting: Setting) -> Iterator[Finding]:
    """At the smaller T, likewise."""
    as_the_mains_do()
    yield from find(setting, setting.size.T[1])


def find_unrepeatable(setting: Setting) -> Iterator[Finding]:
    """At the larger T, with cudnn.benchmark on and deterministic engines off."""
    as_the_mains_do()
    as_fast_as_cudnn_can()
    yield from find(setting, setting.size.T[0])


def find(setting: Setting, T: int) -> Iterator[Finding]:
    """A row per contestant, in the settings in force."""
    workload = setting.workload(T)
    cudnn = torch.backends.cudnn
    yield Line(
        f"{workload.arch}, T = {T}, B = {workload.batch}, {workload.size} x {workload.size} pixels,"
        f" medians of {setting.size.rounds} rounds; cuDNN: TF32 {cudnn.allow_tf32}, deterministic "
        f"{cudnn.deterministic}, benchmark {cudnn.benchmark}"
    )
    if setting.on_gpu:
        take_workspaces(setting)
    ready: dict[str, Prepared] = {}
    yield from prepare(EAGER, workload, ready, setting)
    yield from timed(ready, setting)
    ready = {name: own for name, own in ready.items() if name in REFERENCES}
    yield from prepare(GRAPHS, workload, ready, setting)
    yield from timed(ready, setting)


def take_workspaces(setting: Setting) -> None:
    """Let the libraries take the memory that they keep for every stream, before any is counted."""
    small = replace(setting, size=SIZES["small"]).workload(1)
    for name in ("one_pass", "one_pass_graph"):
        with suppress(Exception):  # what fails here fails below too, and is named there
            Contestant(VARIANTS[name], small).step()


def prepare(
    names: Sequence[str], workload: Workload, ready: dict[str, Prepared], setting: Setting
) -> Iterator[Line]:
    """Add contestants to those that are `ready`; a line for each that cannot be."""
    latest = setting.seconds_left() * (1 - PREPARING)
    for name in names:
        if setting.seconds_left() < latest:
            yield Line(f"left out, for lack of time: {name}")
            continue
        try:
            ready[name] = Prepared(name, workload)
        except Exception as error:  # of memory, or of a compiler: the others may still run
            yield Line(f"{name} failed: {reason(error)}", ok=False)


def timed(ready: dict[str, Prepared], setting: Setting) -> Iterator[Row | Line]:
    """A row for each of those that are ready, measured in turn; then how fast the floors are."""
    seconds = interleaved_seconds(
        [prepared.contestant.step for prepared in ready.values()],
        repeats=setting.size.rounds,
        warmup=1,
        device=setting.device,
    )
    medians = {name: median(own) for name, own in zip(ready, seconds, strict=True)}
    for prepared in ready.values():
        yield prepared.row(medians)
    for name, prepared in ready.items():
        if prepared.contestant.work is not None:
            yield floor_line(name, prepared.contestant.work, medians[name])


class Prepared:
    """A contestant that has taken a step, and the bytes per sample that its step holds.

    kept: for the backward pass; peak: at most, beside weights and momentum; None where the notion
    does not apply.
    """

    def __init__(self, name: str, workload: Workload):
        self.name, self.variant = name, VARIANTS[name]
        gc.collect()  # contestants of before, so that they do not go while this one is measured
        before = 0 if workload.device == "cpu" else torch.cuda.memory_allocated()
        self.contestant = own = Contestant(self.variant, workload)
        self.kept = self.peak = None
        if own.net is None:
            own.step()
            return
        own.forward().backward()
        own.optimizer.step()  # makes the momentum
        own.optimizer.zero_grad(set_to_none=True)
        self.kept = saved_bytes(own.forward, own.parameters) / workload.batch / MEBIBYTE
        if workload.device == "cpu":
            own.step()
        else:
            self._take_measured_step(before, workload)

    def _take_measured_step(self, before: int, workload: Workload) -> None:
        """A step on a GPU where `before` bytes were held when there was no contestant yet."""
        own = self.contestant
        torch.cuda.reset_peak_memory_stats()
        own.step()
        torch.cuda.synchronize()
        momenta = (state["momentum_buffer"] for state in own.optimizer.state.values())
        weights = sum(t.nbytes for t in (*own.net.parameters(), *own.net.buffers(), *momenta))
        held = torch.cuda.max_memory_allocated() - before - weights
        self.peak = held / workload.batch / MEBIBYTE

    def row(self, seconds: dict[str, float]) -> Row:
        """Time and memory; ratios to what was timed with it, by contestant."""
        own = seconds[self.name]
        floor = "floor_bf16" if self.variant.amp == "bf16" else "floor"
        ratios = {"over two-stage as published": PUBLISHED, "share of the floor": floor}
        if FAIREST in seconds:
            ratios["over two-stage, channels_last, graph"] = FAIREST
        return {
            "step": self.variant.text,
            "ms": 1e3 * own,
            **{text: seconds[n] / own if n in seconds else None for text, n in ratios.items()},
            "kept, MiB per sample": self.kept,
            "peak, MiB per sample": self.peak,
        }


def floor_line(name: str, work: tuple[int, int], seconds: float) -> Line:
    """How fast the convolutions alone are."""
    operations, moved = work
    return Line(
        f"{name}: {2e-9 * operations:.3g} GFLOP at {2e-12 * operations / seconds:.3g} TFLOP/s, "
        f"{moved / MEBIBYTE:.0f} MiB moved at {1e-9 * moved / seconds:.3g} GB/s"
    )
