"""What a run may be judged by: one number of it, by name."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

WORDS = {
    "last": "test last",
    "selected": "test selected",
    "best": "test best",
    "ema": "test ema",
    "area": "area",
    "time": "training time",
}
NAMES = f"{', '.join(WORDS)}, step N or head N"


class Metric(NamedTuple):
    """A number of a run, in percent but for `time`.

    last, selected, best, ema: test accuracy, as `summary.CHOICES` has it; area: mean accuracy over
    the time steps 1..T at which the network may be stopped; step N: accuracy after N of them; head
    N: that of the N-th head; time: seconds of training in all (`training_time`).
    """

    kind: str
    number: int | None = None

    @property
    def name(self) -> str:
        return self.kind if self.number is None else f"{self.kind} {self.number}"

    @property
    def words(self) -> str:
        if self.kind == "step":
            return f"after {self.number} step{'s' * (self.number > 1)}"
        return WORDS.get(self.kind, self.name)

    @property
    def unit(self) -> str:
        return "s" if self.kind == "time" else "points"

    def value(self, run: dict[str, Any]) -> float | None:
        """Of a run as `summary.run_result` has it; None if the run has no such number."""
        if self.kind == "time":
            return training_time(run)
        if self.number is None:
            return run[self.kind]
        series = run[f"{self.kind}s"]
        return series[self.number - 1] if self.number <= len(series) else None


def metric_named(name: Any) -> Metric:
    """Raises: ValueError if there is none of this name."""
    numbered = re.fullmatch(r"(step|head) ([1-9]\d*)", name) if isinstance(name, str) else None
    if numbered:
        return Metric(numbered[1], int(numbered[2]))
    if not isinstance(name, str) or name not in WORDS:
        raise ValueError(f"the metric {name!r} is unknown, expected {NAMES}")
    return Metric(name)


def made_on_gpu(run: dict[str, Any]) -> bool:
    """Whether a run was made on a machine with a GPU."""
    return run["environment"].get("cuda") is not None


def training_time(run: dict[str, Any]) -> float | None:
    """Seconds of the processor, which other programs hardly change; on a GPU those of the clock.

    None for a run of an earlier version, which did not measure the processor's.
    """
    return run["training_seconds" if made_on_gpu(run) else "training_cpu_seconds"]
