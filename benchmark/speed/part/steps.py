"""Training steps with branches: this project's, the published way, BPTT.

Contestants live in one process and are timed in turn: first those that launch kernel by kernel,
then CUDA graphs of the whole step, among them the eager steps that they are compared with. A
graph's peak is that of its recording. Peaks are a GPU's alone: `benchmark.speed.step` has those of
a CPU.
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
from benchmark.speed.part.bandwidth import copy_bandwidth
from benchmark.speed.part.finding import Finding, Line, Row, reason
from benchmark.speed.part.goal import OF_ROOFLINE, OVER_FAIREST, OVER_PUBLISHED, verdict
from benchmark.speed.part.setting import SIZES, Setting, as_the_mains_do
from benchmark.speed.workload import FLOORS, VARIANTS, Variant, Workload

PUBLISHED, FAIREST = "two_stage", "two_stage_channels_last_graph"
OURS = "one_pass_graph"  # in the precision of the published step
EAGER = (  # by worth: what there is no time for is left out
    PUBLISHED,
    "one_pass",
    "floor",
    "one_pass_fp16",
    "floor_fp16",
    "bptt",
    "one_pass_bf16",
    "floor_bf16",
    "two_stage_channels_last",
    "one_pass_bf16_backward",
    "floor_bf16_backward",
)
GRAPHS = (
    OURS,
    FAIREST,
    "one_pass_fp16_graph",
    "one_pass_bf16_graph",
    "bptt_graph",
    "one_pass_bf16_backward_graph",
)
REFERENCES = (PUBLISHED, "one_pass", *FLOORS.values())  # timed again beside the graphs
UNREPEATABLE = (PUBLISHED, "one_pass", "floor", "floor_fp16", OURS, FAIREST, "one_pass_fp16_graph")
PREPARING = 0.5  # share of the time left after which no further contestant is prepared


def find(setting: Setting) -> Iterator[Finding]:
    """A row per contestant, with the libraries' settings of the mains; rooflines and verdicts."""
    as_the_mains_do()
    race = Race(setting)
    yield from race.run(EAGER)
    race.keep(REFERENCES)
    yield from race.run(GRAPHS)
    yield from race.rooflines()
    yield from race.verdicts()


def find_unrepeatable(setting: Setting) -> Iterator[Finding]:
    """A row for the most important; convolutions take whatever algorithm is the fastest here."""
    as_the_mains_do()
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = False, True
    race = Race(setting)
    yield from race.run(UNREPEATABLE)
    yield from race.rooflines()


class Race:
    """Steps that are timed in turn.

    ready: those that can be, by name; seconds: medians of the last timing; copy: bytes per second.
    """

    def __init__(self, setting: Setting):
        self.setting, self.workload = setting, setting.workload(setting.size.T)
        self.copy = copy_bandwidth(setting)
        self.ready: dict[str, Prepared] = {}
        self.seconds: dict[str, float] = {}
        if setting.on_gpu:
            take_workspaces(setting)

    def run(self, names: Sequence[str]) -> Iterator[Finding]:
        """Prepare these too, then a row for each that is ready."""
        yield Line(contest_in_words(self.workload, self.setting.size.rounds))
        yield from self._prepare(names)
        steps = [undivided(prepared.step) for prepared in self.ready.values()]
        found = median_seconds(steps, Rounds(self.setting.size.rounds), self.setting.device)
        self.seconds = {name: own["step"] for name, own in zip(self.ready, found, strict=True)}
        for name, prepared in self.ready.items():
            ratios = {
                "over two-stage as published": self.ratio(PUBLISHED, name),
                "over two-stage, channels_last, graph": self.ratio(FAIREST, name),
                "share of the floor": self.ratio(FLOORS[prepared.variant.amp], name),
                "share of the roofline": self.share_of_roofline(name),
            }
            yield prepared.row(self.seconds[name], ratios)

    def _prepare(self, names: Sequence[str]) -> Iterator[Line]:
        """A line for each that cannot be."""
        setting = self.setting
        latest = setting.seconds_left() * (1 - PREPARING)
        for name in names:
            if setting.seconds_left() < latest:
                yield Line(f"left out, for lack of time: {name}")
                continue
            try:
                self.ready[name] = Prepared(VARIANTS[name], self.workload)
            except Exception as error:  # of memory, or of a compiler: the others may still run
                yield Line(f"{name} failed: {reason(error)}", ok=False)

    def keep(self, names: Sequence[str]) -> None:
        """Forget all others, and with them their memory."""
        self.ready = {name: own for name, own in self.ready.items() if name in names}

    def ratio(self, other: str, name: str) -> float | None:
        """How often the step `name` fits into the other's time."""
        return self.seconds[other] / self.seconds[name] if other in self.seconds else None

    def roofline(self, amp: str) -> float | None:
        """Seconds."""
        floor = FLOORS[amp]
        if floor not in self.seconds:
            return None
        return self.ready[floor].step.roofline(self.seconds[floor], self.copy)

    def share_of_roofline(self, name: str) -> float | None:
        """Of a step that trains by rates; others move other bytes."""
        variant = VARIANTS[name]
        if variant.kind != "project" or variant.method is not None:
            return None
        limit = self.roofline(variant.amp)
        return None if limit is None else limit / self.seconds[name]

    def rooflines(self) -> Iterator[Row]:
        for name, prepared in self.ready.items():
            if isinstance(prepared.step, ConvolutionFloor):
                seconds, traffic = self.seconds[name], prepared.step.traffic
                yield {
                    "roofline of": prepared.variant.text,
                    "convolutions, TFLOP/s": 2e-12 * prepared.step.multiply_adds() / seconds,
                    "ms": 1e3 * seconds,
                    **{f"{kind}, GB": 1e-9 * moved for kind, moved in traffic._asdict().items()},
                    "copy, GB/s": 1e-9 * self.copy,
                    "sum, ms": 1e3 * self.roofline(prepared.variant.amp),
                }

    def verdicts(self) -> Iterator[Row]:
        """On our graph in TF32, and on the fastest of ours."""
        ours = [name for name in self.seconds if self.share_of_roofline(name) is not None]
        if not ours:
            return
        fastest = min(ours, key=self.seconds.__getitem__)
        for name in [own for own in ours if own in (OURS, fastest)]:
            own = f"{VARIANTS[name].text}, {1e3 * self.seconds[name]:.2f} ms"
            for goal, other in ((OVER_PUBLISHED, PUBLISHED), (OVER_FAIREST, FAIREST)):
                if other in self.seconds:
                    of = f"{own} against {1e3 * self.seconds[other]:.2f}"
                    yield verdict(goal, self.ratio(other, name), of)
            limit = 1e3 * self.roofline(VARIANTS[name].amp)
            yield verdict(OF_ROOFLINE, self.share_of_roofline(name), f"{own} against {limit:.2f}")


def contest_in_words(workload: Workload, rounds: int) -> str:
    cudnn, pixels = torch.backends.cudnn, f"{workload.size} x {workload.size} pixels"
    return (
        f"{workload.arch}, T = {workload.T}, B = {workload.batch}, {pixels}, medians of {rounds} "
        f"rounds; cuDNN: TF32 {cudnn.allow_tf32}, deterministic {cudnn.deterministic}, "
        f"benchmark {cudnn.benchmark}"
    )


def take_workspaces(setting: Setting) -> None:
    """Let the libraries take the memory that they keep for every stream, before any is counted."""
    small = replace(setting, size=SIZES["small"]).workload(1)
    for name in ("one_pass", OURS):
        with suppress(Exception):  # what fails here fails below too, and is named there
            step_of(VARIANTS[name], small)()


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
            step.backward(step.loss(step.images, step.labels))  # libraries take their workspaces
            step.net.zero_grad(set_to_none=True)
            self.kept = step.kept_bytes() / workload.batch / MEBIBYTE
            if workload.device != "cpu":
                self.peak = peak_on_gpu(step, before) / workload.batch / MEBIBYTE
                return
        step()

    def row(self, seconds: float, ratios: Row) -> Row:
        return {
            "step": self.variant.text,
            "ms": 1e3 * seconds,
            **ratios,
            "kept, MiB per sample": self.kept,
            "peak, MiB per sample": self.peak,
        }


def peak_on_gpu(step: TrainingStep, before: int) -> int:
    """The most bytes of a step beside weights and momentum, and the `before` of other things."""
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    momenta = (own["momentum_buffer"] for own in step.update.optimizer.state.values())
    weights = sum(t.nbytes for t in (*step.parameters, *step.net.buffers(), *momenta))
    return torch.cuda.max_memory_allocated() - before - weights
