"""Tables and picture of what `cost.py` measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from benchmark.speed.measure import MEBIBYTE, machine_in_words
from benchmark.speed.step_report import Report
from util.figure import drawing, markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Cost(NamedTuple):
    """One method at one T, B samples.

    seconds, backward_seconds: of a step, and of its backward passes; kept: bytes kept for
    backward; forward_peak, backward_peak: the most bytes held in a forward pass, and in a backward
    pass or the update behind it, beyond those held between steps.
    """

    method: str
    T: int
    batch: int
    seconds: float
    backward_seconds: float
    kept: int
    forward_peak: int
    backward_peak: int

    def per_sample(self, field: str) -> float:
        """MiB."""
        return getattr(self, field) / self.batch / MEBIBYTE


class Quantity(NamedTuple):
    """What a table is of, for a person; its number in a row."""

    text: str
    of: Callable[[Cost], float]


QUANTITIES = (
    Quantity("ms per training step", lambda row: 1e3 * row.seconds),
    Quantity("ms in the step's backward passes", lambda row: 1e3 * row.backward_seconds),
    Quantity("kept for backward, MiB per sample", lambda row: row.per_sample("kept")),
    Quantity(
        "peak of the backward pass, MiB per sample", lambda row: row.per_sample("backward_peak")
    ),
    Quantity(
        "peak of the forward pass, MiB per sample", lambda row: row.per_sample("forward_peak")
    ),
)
STYLES = {  # method: label, colour, line, its width
    "esd": ("esd", "#1565c0", "-", 3.5),  # wide, so that equal curves on top leave it visible
    "esd_sparse": ("esd, sparse", "#c62828", "-", 1.5),
    "rate": ("rate", "#90caf9", "--", 1.5),
    "rate_sparse": ("rate, sparse", "#ef9a9a", "--", 1.5),
    "bptt": ("bptt", "#5d4037", "-", 1.5),
    "bptt_checkpointed": ("bptt, checkpointed", "#bcaaa4", "--", 1.5),
    "sltt": ("sltt", "#2e7d32", "-", 1.5),
    "ottt": ("ottt", "#81c784", "--", 1.5),
}


class CostReport(Report):
    """One table per quantity, methods down, T across."""

    name, title = "cost", "Cost of a training step"
    rows: Sequence[Cost]

    def conditions(self) -> str:
        return f"{machine_in_words(self.machine)}, B = {self.rows[0].batch}"

    def sections(self) -> Iterator[tuple[str, str]]:
        for quantity in QUANTITIES:
            yield quantity.text, table(self.rows, quantity)

    def picture(self) -> bytes:
        content = BytesIO()
        with drawing(content, 14, 8, self.setting()) as figure:
            *panels, last = figure.subplots(2, 3).flat
            for axes, quantity in zip(panels, QUANTITIES, strict=True):
                draw_cost(axes, self.rows, quantity)
            last.axis("off")
            last.legend(*panels[0].get_legend_handles_labels(), loc="center left", fontsize=12)
        return content.getvalue()

    def setting(self) -> str:
        where = self.machine.get("gpu", self.machine["processor"])
        width = f" of width {self.machine['width']}" if "width" in self.machine else ""
        return f"{self.machine['arch']}{width}, batch {self.rows[0].batch}, {where}"


def table(rows: Sequence[Cost], quantity: Quantity) -> str:
    """The last column is the growth from T = 2 (or the smallest) to the largest T."""
    time_steps = sorted({row.T for row in rows})
    first, last = 2 if 2 in time_steps else time_steps[0], time_steps[-1]
    values = {(row.method, row.T): quantity.of(row) for row in rows}
    lines = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [values[method, T] for T in time_steps]
        growth = f"{values[method, last] / values[method, first]:.2f}"
        lines.append([method, *(f"{v:.2f}" if v < 100 else f"{v:.0f}" for v in own), growth])
    return markdown_table(["T", *map(str, time_steps), f"T {last} over T {first}"], lines)


def draw_cost(axes: Axes, rows: Sequence[Cost], quantity: Quantity) -> None:
    """A quantity against T, a line per method; both axes logarithmic."""
    for method, (label, *style) in STYLES.items():
        own = [row for row in rows if row.method == method]
        if own:
            line = dict(zip(("color", "linestyle", "linewidth"), style, strict=True))
            values = [quantity.of(row) for row in own]
            axes.plot([row.T for row in own], values, "o", markersize=3.5, label=label, **line)
    axes.set(xlabel="time steps T", ylabel=quantity.text, xscale="log", yscale="log")
    axes.set_xticks(sorted({row.T for row in rows}), minor=False)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")  # no power of 10 there
    axes.grid(alpha=0.3, which="both")
