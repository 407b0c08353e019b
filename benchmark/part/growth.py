"""Cost against T of the step that trains, eager: time, kept bytes and peaks of esd, rate and bptt.

Also writes cost.md, cost.json and cost.png, as `benchmark/cost.py` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmark.cost import costs_of
from benchmark.cost_report import QUANTITIES, Cost, cost_files
from benchmark.measure import machine
from benchmark.part.finding import Finding, Line, reason
from benchmark.part.setting import Setting, as_the_mains_do
from util.atomic_file import write_atomically

METHODS = ("esd", "rate", "bptt")


def find(setting: Setting) -> Iterator[Finding]:
    """A row per T and method, from small T to large."""
    as_the_mains_do()
    rows: list[Cost] = []
    for T in setting.size.growth:
        for method in METHODS:
            try:
                rows += costs_of(method, [setting.workload(T)], 1, setting.size.rounds // 5 + 1, 1)
            except Exception as error:  # of memory, say: others may still run
                yield Line(f"{method} at T = {T}: {reason(error)}", ok=False)
                continue
            quantities = {text: getattr(rows[-1], name) for name, text in QUANTITIES.items()}
            yield {"T": T, "method": method, **quantities}
        write_files(setting, rows)  # anew: there may be no time for the next T


def write_files(setting: Setting, rows: list[Cost]) -> None:
    """The tables and the picture, of those T at which every method was measured."""
    counts = Counter(row.T for row in rows)
    rows = [
        row
        for method in METHODS
        for row in rows
        if row.method == method and counts[row.T] == len(METHODS)
    ]
    if not rows:
        return
    conditions = {**machine(setting.device), "arch": setting.size.arch}
    files = cost_files(rows, conditions, "python benchmark/gpu.py --only growth")
    for name, content in files:
        write_atomically(setting.folder / name, content)
