"""Tables and picture of what `cost.py` measured."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from benchmark.report import MEBIBYTE
from util.figure import drawing
from util.text import as_utf8

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

    @property
    def milliseconds(self) -> float:
        return 1e3 * self.seconds

    @property
    def backward_milliseconds(self) -> float:
        return 1e3 * self.backward_seconds

    @property
    def kept_per_sample(self) -> float:
        """MiB."""
        return self.kept / self.batch / MEBIBYTE

    @property
    def forward_peak_per_sample(self) -> float:
        """MiB."""
        return self.forward_peak / self.batch / MEBIBYTE

    @property
    def backward_peak_per_sample(self) -> float:
        """MiB."""
        return self.backward_peak / self.batch / MEBIBYTE


QUANTITIES = {  # property of Cost: what it is, for a person
    "milliseconds": "ms per training step",
    "backward_milliseconds": "ms in the step's backward passes",
    "kept_per_sample": "kept for backward, MiB per sample",
    "backward_peak_per_sample": "peak of the backward pass, MiB per sample",
    "forward_peak_per_sample": "peak of the forward pass, MiB per sample",
}
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


def markdown(rows: list[Cost], conditions: dict, command: str) -> str:
    """One table per quantity, methods down, T across, under the command and the machine."""
    described = ", ".join(f"{key} {value}" for key, value in conditions.items())
    parts = [f"# Cost of a training step\n\n    {command}\n\n{described}, B = {rows[0].batch}"]
    parts += [f"### {text}\n\n{table(rows, field)}" for field, text in QUANTITIES.items()]
    return "\n\n".join(parts) + "\n"


def table(rows: list[Cost], field: str) -> str:
    """One quantity; the last column is its growth from T = 2 (or the smallest) to the largest T."""
    time_steps = sorted({row.T for row in rows})
    first = 2 if 2 in time_steps else time_steps[0]
    values = {(row.method, row.T): getattr(row, field) for row in rows}
    growth = f"T {time_steps[-1]} over T {first}"
    lines = ["| T | " + " | ".join(map(str, time_steps)) + f" | {growth} |"]
    lines.append("|--|" + "--:|" * (len(time_steps) + 1))
    for method in dict.fromkeys(row.method for row in rows):
        own = [values[method, T] for T in time_steps]
        ratio = own[-1] / values[method, first]
        cells = [*(f"{v:.2f}" if v < 100 else f"{v:.0f}" for v in own), f"{ratio:.2f}"]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(axes: Axes, rows: list[Cost], field: str) -> None:
    """One quantity against T, a line per method; both axes logarithmic."""
    for method, (label, colour, line, width) in STYLES.items():
        own = [row for row in rows if row.method == method]
        if own:
            values = [getattr(row, field) for row in own]
            axes.plot([row.T for row in own], values, color=colour, linestyle=line,
                      linewidth=width, marker="o", markersize=3.5, label=label)  # fmt: skip
    axes.set(xlabel="time steps T", ylabel=QUANTITIES[field], xscale="log", yscale="log")
    axes.set_xticks(sorted({row.T for row in rows}), minor=False)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.grid(alpha=0.3, which="both")


def picture(rows: list[Cost], conditions: dict) -> bytes:
    """PNG: a panel for each quantity, and one for the legend."""
    where = conditions.get("gpu", conditions["processor"])
    title = f"{conditions['arch']}, batch {rows[0].batch}, {where}"
    content = io.BytesIO()
    with drawing(content, 14, 8, title) as figure:
        *panels, last = figure.subplots(2, 3).flat
        for axes, field in zip(panels, QUANTITIES, strict=True):
            draw(axes, rows, field)
        last.axis("off")
        last.legend(*panels[0].get_legend_handles_labels(), loc="center left", fontsize=12)
    return content.getvalue()


def as_json(rows: list[Cost], conditions: dict, command: str) -> str:
    record = {"command": command, "machine": conditions, "rows": [row._asdict() for row in rows]}
    return json.dumps(record, indent=1) + "\n"


def cost_files(rows: list[Cost], conditions: dict, command: str) -> Iterator[tuple[str, bytes]]:
    """cost.md, cost.json and cost.png, which is drawn when the others have been taken."""
    yield "cost.md", as_utf8(markdown(rows, conditions, command))
    yield "cost.json", as_utf8(as_json(rows, conditions, command))
    yield "cost.png", picture(rows, conditions)
