"""Where a step's time goes on the device: tables of shares and of kernels, per precision."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.speed.harness import TrainingStep
from benchmark.speed.part.finding import Finding, Line
from benchmark.speed.part.setting import Setting, as_the_mains_do
from benchmark.speed.profile import Profile
from benchmark.speed.workload import VARIANTS


def find(setting: Setting) -> Iterator[Finding]:
    """Of the eager steps: under a graph the profiler knows no layers."""
    as_the_mains_do()
    for name in ("one_pass", "one_pass_fp16"):
        step = TrainingStep(VARIANTS[name], setting.workload(setting.size.T))
        found = Profile(step, setting.size.profiled)
        total = found.total
        yield Line(
            f"{step.variant.text}: {total / 1e3:.2f} ms in operations, of {found.wall / 1e3:.2f} "
            "ms per step without the profiler"
        )
        for kind, own in found.spent.most_common():
            yield {"part of a step": kind, "ms": own / 1e3, "share, %": 100 * own / total}
        for operation, own, count in found.busiest:
            yield {"what takes longest": operation[:90], "per step": count, "ms": own / 1e3}
