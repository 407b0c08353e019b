"""What the engine is to reach on one GPU, and whether it does: a row per verdict.

A goal that is missed is a finding, not a fault: the part that measured it has done its work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from benchmark.speed.part.finding import Row

REACHED, MISSED, UNKNOWN = "reached", "MISSED", "not measured"


class Goal(NamedTuple):
    """text: of what number; at_least: whether the bound is a lower one."""

    text: str
    bound: float
    at_least: bool = True

    @property
    def wanted(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


OVER_PUBLISHED = Goal("speed-up over two-stage as published (TF32, eager)", 5)
OVER_FAIREST = Goal("speed-up over two-stage in channels_last as a graph (TF32)", 2.5)
OF_ROOFLINE = Goal("share of the roofline", 0.6)
FLAT = Goal("bytes kept for backward, the most over the least at any T", 1.05, at_least=False)
LARGE = Goal("share of the roofline, PreAct-ResNet-34, 224 pixels, largest batch", 0.6)
EPOCH = Goal("an epoch, all in, over its steps", 1.3, at_least=False)
GOALS = (OVER_PUBLISHED, OVER_FAIREST, OF_ROOFLINE, FLAT, LARGE, EPOCH)


def verdict(goal: Goal, measured: float, of: str) -> Row:
    """of: what was measured, and the numbers that it comes from."""
    reached = measured >= goal.bound if goal.at_least else measured <= goal.bound
    return _row(goal, of, measured, REACHED if reached else MISSED)


def all_verdicts(parts: Iterable[dict[str, Any]]) -> list[Row]:
    """Those among the findings of parts, by goal; and the goals of which there is none."""
    found = [own | {"part": p["part"]} for p in parts for own in p["findings"] if "goal" in own]
    rows = []
    for goal in GOALS:
        own = [row for row in found if row["goal"] == goal.text]
        rows += own or [_row(goal, "", None, UNKNOWN) | {"part": ""}]
    return rows


def _row(goal: Goal, of: str, measured: float | None, text: str) -> Row:
    return {
        "verdict": text,
        "goal": goal.text,
        "of": of,
        "wanted": goal.wanted,
        "measured": measured,
    }
