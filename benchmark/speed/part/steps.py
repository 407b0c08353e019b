"""Training steps with branches: this project's, the published way, BPTT; where the time goes.

Contestants live in one process and are timed in turn: first those that launch kernel by kernel,
then CUDA graphs, among them the eager steps that they are compared with. A graph's peak is that of
its recording. Peaks are a GPU's alone: `benchmark.speed.step` has those of a CPU.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from benchmark.speed.floor import ConvolutionFloor
from benchmark.speed.harness import TrainingStep, step_of
from benchmark.speed.measure import MEBIBYTE, Rounds, median_seconds, undivided
from benchmark.speed.part.finding import Finding, Line, Row, reason
from benchmark.speed.part.setting import SIZES, Setting, as_the_mains_do
from benchmark.speed.profile import Profile
from benchmark.speed.workload import VARIANTS, Variant, Workload

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


def find(setting: Setting, *, at: int = 0, repeatable: bool = True) -> Iterator[Finding]:
    """A row per contestant, at T = `setting.size.T[at]`, with the libraries' settings of the mains.

    repeatable: if not, convolutions take whatever algorithm is the fastest here.
    """
    as_the_mains_do()
    cudnn = torch.backends.cudnn
    if not repeatable:
        cudnn.deterministic, cudnn.benchmark = False, True
    workload = setting.workload(setting.size.T[at])
    pixels = f"{workload.size} x {workload.size} pixels"
    yield Line(
        f"{workload.arch}, T = {workload.T}, B = {workload.batch}, {pixels},"
        f" medians of {setting.size.rounds} rounds; cuDNN: TF32 {cudnn.allow_tf32}, deterministic "
        f"{cudnn.deterministic}, benchmark {cudnn.benchmark}"
    )
    if setting.on_gpu:
        take_workspaces(setting)
    ready: dict[str, Prepared] = {}
    yield from prepare_all(EAGER, workload, ready, setting)
    yield from timed(ready, setting)
    ready = {name: own for name, own in ready.items() if name in REFERENCES}
    yield from prepare_all(GRAPHS, workload, ready, setting)
    yield from timed(ready, setting)


def find_shares(setting: Setting) -> Iterator[Finding]:
    """Where a step's time goes on the device: tables of shares and of kernels, per precision."""
    as_the_mains_do()
    for variant in (VARIANTS["one_pass"], VARIANTS["one_pass_bf16"]):
        step = TrainingStep(variant, setting.workload(setting.size.T[0]))
        found = Profile(step, setting.size.profiled)
        total = found.total
        yield Line(
            f"{variant.text}: {total / 1e3:.2f} ms in operations, of {found.wall / 1e3:.2f} ms per "
            "step without the profiler"
        )
        for kind, own in found.spent.most_common():
            yield {"part of a step": kind, "ms": own / 1e3, "share, %": 100 * own / total}
        for operation, own, count in found.busiest:
            yield {"what takes longest": operation[:90], "per step": count, "ms": own / 1e3}


def take_workspaces(setting: Setting) -> None:
    """Let the libraries take the memory that they keep for every stream, before any is counted."""
    small = replace(setting, size=SIZES["small"]).workload(1)
    for name in ("one_pass", "one_pass_graph"):
        with suppress(Exception):  # what fails here fails below too, and is named there
            step_of(VARIANTS[name], small)()


def prepare_all(
    names: Sequence[str], workload: Workload, ready: dict[str, Prepared], setting: Setting
) -> Iterator[Line]:
    """Add contestants to those that are `ready`; a line for each that cannot be."""
    latest = setting.seconds_left() * (1 - PREPARING)
    for name in names:
        if setting.seconds_left() < latest:
            yield Line(f"left out, for lack of time: {name}")
            continue
        try:
            ready[name] = Prepared(VARIANTS[name], workload)
        except Exception as error:  # of memory, or of a compiler: the others may still run
            yield Line(f"{name} failed: {reason(error)}", ok=False)


def timed(ready: dict[str, Prepared], setting: Setting) -> Iterator[Row | Line]:
    """A row for each of those that are ready, measured in turn; then how fast the floors are."""
    steps = [undivided(prepared.step) for prepared in ready.values()]
    found = median_seconds(steps, Rounds(setting.size.rounds), setting.device)
    seconds = {name: own["step"] for name, own in zip(ready, found, strict=True)}
    for name, prepared in ready.items():
        yield prepared.row(name, seconds)
    for name, prepared in ready.items():
        if isinstance(prepared.step, ConvolutionFloor):
            yield Line(f"{name}: {prepared.step.speed(seconds[name])}")


class Prepared:
    """A contestant that has taken a step, and the MiB per sample that its step holds.

    kept: for the backward pass; peak: at most, beside weights and momentum; None where the notion
    does not apply.
    """

    def __init__(self, variant: Variant, workload: Workload):
        self.variant = variant
        self.kept = self.peak = None
        gc.collect()  # contestants of before, so that they do not go while this one is measured
        before = 0 if workload.device == "cpu" else torch.cuda.memory_allocated()
        self.step = step = step_of(variant, workload)
        if isinstance(step, TrainingStep):
            step.loss(step.images, step.labels).backward()
            step.optimizer.step()  # makes the momentum
            step.optimizer.zero_grad(set_to_none=True)
            self.kept = step.kept_bytes() / workload.batch / MEBIBYTE
            if workload.device != "cpu":
                self.peak = peak_on_gpu(step, before) / workload.batch / MEBIBYTE
                return
        step()

    def row(self, name: str, seconds: dict[str, float]) -> Row:
        """Time and memory; ratios to what was timed with it, by contestant."""
        own = seconds[name]
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


def peak_on_gpu(step: TrainingStep, before: int) -> int:
    """The most bytes of a step beside weights and momentum, and the `before` of other things."""
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    momenta = (state["momentum_buffer"] for state in step.optimizer.state.values())
    weights = sum(t.nbytes for t in (*step.parameters, *step.net.buffers(), *momenta))
    return torch.cuda.max_memory_allocated() - before - weights
