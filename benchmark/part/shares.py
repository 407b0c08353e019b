"""Where a step's time goes on the device, by kind of layer, branches apart; and its kernels."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.contestant import VARIANTS, Contestant
from benchmark.part.finding import Finding, Line
from benchmark.part.setting import Setting, as_the_mains_do
from benchmark.profile import Profile

CONTESTANTS = ("one_pass", "one_pass_bf16")


def find(setting: Setting) -> Iterator[Finding]:
    """Tables of shares and of kernels, for each precision."""
    as_the_mains_do()
    for name in CONTESTANTS:
        variant = VARIANTS[name]
        contestant = Contestant(variant, setting.workload(setting.size.T[0]))
        found = Profile(contestant, repeats=setting.size.profiled, device=setting.device)
        total = sum(found.spent.values())
        yield Line(
            f"{variant.text}: {total / 1e3:.2f} ms in operations, of {found.wall / 1e3:.2f} ms per "
            "step without the profiler"
        )
        for kind, own in found.spent.most_common():
            yield {"part of a step": kind, "ms": own / 1e3, "share, %": 100 * own / total}
        for operation, own, count in found.busiest:
            yield {"what takes longest": operation[:90], "per step": count, "ms": own / 1e3}
