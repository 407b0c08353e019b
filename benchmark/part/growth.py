"""Cost against T of the step that trains, eager: time, kept bytes and peaks of esd, rate and bptt.

Also writes cost.md, cost.json and cost.png, as `benchmark/cost.py` does.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.cost import costs_of
from benchmark.cost_report import QUANTITIES, Cost, cost_files
from benchmark.measure import machine
from benchmark.part.finding import Finding, Line
from benchmark.part.setting import Setting, as_the_mains_do
from util.atomic_file import write_atomically

METHODS = ("esd", "rate", "bptt")
RESERVE = 0.1  # share of the part's time that is left for the files


def find(setting: Setting) -> Iterator[Finding]:
    """A row per T and method, from small T to large."""
    as_the_mains_do()
    rows: list[Cost] = []
    reserve = RESERVE * setting.seconds_left()
    for T in setting.size.growth:
        for method in METHODS:
            if setting.seconds_left() < reserve:
                yield Line(f"left out, for lack of time: {method} at T = {T}", ok=False)
                continue
            try:
                rows += costs_of(method, [setting.workload(T)], 1, setting.size.rounds // 4 + 1, 2)
            except RuntimeError as error:  # of memory too
                yield Line(f"{method} at T = {T}: {str(error).splitlines()[0]}", ok=False)
                continue
            quantities = {text: getattr(rows[-1], name) for name, text in QUANTITIES.items()}
            yield {"T": T, "method": method, **quantities}
    if len(rows) == len(setting.size.growth) * len(METHODS):
        write_files(setting, sorted(rows, key=lambda row: METHODS.index(row.method)))


def write_files(setting: Setting, rows: list[Cost]) -> None:
    """The tables and the picture of all methods at all T."""
    conditions = {**machine(setting.device), "arch": setting.size.arch}
    files = cost_files(rows, conditions, "python benchmark/gpu.py --only growth")
    for name, content in files.items():
        write_atomically(setting.folder / name, content)
