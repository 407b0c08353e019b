"""Cost against T of the step that trains, eager: time, kept bytes and peaks of esd, rate and bptt.

Also writes cost.md, cost.json and cost.png, as `benchmark.speed.cost` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from benchmark.speed.cost import cost_of
from benchmark.speed.cost_report import QUANTITIES, Cost, CostReport
from benchmark.speed.measure import Rounds, machine
from benchmark.speed.part.finding import Finding, Line, reason
from benchmark.speed.part.goal import FLAT, verdict
from benchmark.speed.part.setting import Setting, as_the_mains_do
from util.file.atomic import write_atomically

OURS = "esd"
METHODS = (OURS, "rate", "bptt")


def find(setting: Setting) -> Iterator[Finding]:
    """A row per T and method, from small T to large."""
    as_the_mains_do()
    rounds = Rounds(setting.size.rounds // 5 + 1)
    rows: list[Cost] = []
    for T in setting.size.growth:
        for method in METHODS:
            try:
                rows.append(cost_of(method, setting.workload(T), rounds))
            except Exception as error:  # of memory, say: others may still run
                yield Line(f"{method} at T = {T}: {reason(error)}", ok=False)
                continue
            yield {"T": T, "method": method, **{q.text: q.of(rows[-1]) for q in QUANTITIES}}
        write_files(setting, rows)  # anew: there may be no time for the next T
    kept = {row.T: row.kept for row in rows if row.method == OURS}
    if kept:
        times = f"{OURS}, T = {', '.join(map(str, kept))}"
        yield verdict(FLAT, max(kept.values()) / min(kept.values()), times)


def write_files(setting: Setting, rows: list[Cost]) -> None:
    """The tables and the picture, of those T at which every method was measured."""
    counts = Counter(row.T for row in rows)
    whole = [row for row in rows if counts[row.T] == len(METHODS)]
    whole.sort(key=lambda row: METHODS.index(row.method))
    if not whole:
        return
    conditions = machine(setting.device) | {"arch": setting.size.arch}
    command = "python -m benchmark.speed.gpu --only growth"
    for name, content in CostReport(whole, conditions, command).files():
        write_atomically(setting.folder / name, content)
