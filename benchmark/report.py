"""Tables and pictures of what the benchmarks measured."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from util.figure import drawing
from util.text import as_utf8

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEBIBYTE = 2**20


class Row(NamedTuple):
    """One contestant at one T.

    seconds: median of a step; saved, peak: bytes kept for backward and bytes allocated at most
    during a step, both per sample; firing: spikes per neuron and time step; None where the notion
    does not apply.
    """

    name: str
    text: str
    branches: bool
    T: int
    batch: int
    seconds: float
    saved: float | None
    peak: float | None
    firing: float | None = None


def markdown(rows: list[Row], machine: dict, command: str) -> str:
    """The rows as tables, one for each (branches, T), under the machine and the command."""
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    parts = [f"# Training steps\n\n    {command}\n\n{described}"]
    for branches, T in dict.fromkeys((row.branches, row.T) for row in rows):
        group = [row for row in rows if (row.branches, row.T) == (branches, T)]
        title = f"T = {T}, B = {group[0].batch}, {'with' if branches else 'without'} branches"
        firing = next((row.firing for row in group if row.firing is not None), None)
        title += "" if firing is None else f", mean firing rate {100 * firing:.1f} %"
        parts.append(f"### {title}\n\n" + table(group))
    return "\n\n".join(parts) + "\n"


def table(rows: list[Row]) -> str:
    """One markdown table; speed-ups against `two_stage`, distance to `floor`."""
    seconds = {row.name: row.seconds for row in rows}
    lines = [
        "| step | ms | speed-up over two-stage | times the floor | kept for backward, "
        "MiB per sample | peak, MiB per sample |",
        "|--|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cells = [
            row.text,
            f"{1e3 * row.seconds:.1f}",
            _ratio(seconds.get("two_stage"), row.seconds),
            _ratio(row.seconds, seconds.get("floor")),
            _mebibytes(row.saved),
            _mebibytes(row.peak),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _ratio(numerator: float | None, denominator: float | None) -> str:
    return "" if numerator is None or denominator is None else f"{numerator / denominator:.2f}"


def _mebibytes(count: float | None) -> str:
    return "" if count is None else f"{count / MEBIBYTE:.2f}"


def as_json(rows: list[Row], machine: dict, command: str) -> str:
    """Everything measured, for other programs."""
    record = {"command": command, "machine": machine, "rows": [row._asdict() for row in rows]}
    return json.dumps(record, indent=1) + "\n"


def picture(rows: list[Row]) -> bytes:
    """PNG: step time, bytes kept for backward and peak memory against T."""
    panels = (
        ("seconds", 1e3, "ms per step"),
        ("saved", 1 / MEBIBYTE, "kept for backward, MiB per sample"),
        ("peak", 1 / MEBIBYTE, "peak, MiB per sample"),
    )
    settings = list(dict.fromkeys(row.branches for row in rows))
    content = io.BytesIO()
    with drawing(content, 5 * len(panels), 1 + 4 * len(settings), dpi=120) as figure:
        grid = figure.subplots(len(settings), len(panels), squeeze=False)
        for branches, line in zip(settings, grid, strict=True):
            for (field, unit, label), axes in zip(panels, line, strict=True):
                _draw(axes, [r for r in rows if r.branches == branches], field, unit)
                axes.set(xlabel="time steps T", ylabel=label, ylim=(0, None))
                axes.set_xticks(sorted({row.T for row in rows}))
                axes.set_title("with branches" if branches else "without branches")
        figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return content.getvalue()


def _draw(axes: Axes, rows: list[Row], field: str, unit: float) -> None:
    for name in dict.fromkeys(row.name for row in rows):
        own = [r for r in rows if r.name == name and getattr(r, field) is not None]
        if own:
            values = [unit * getattr(r, field) for r in own]
            axes.plot([r.T for r in own], values, marker="o", label=own[0].text)


def report_files(rows: list[Row], machine: dict, command: str) -> Iterator[tuple[str, bytes]]:
    """step.md, step.json and step.png, which is drawn when the others have been taken."""
    yield "step.md", as_utf8(markdown(rows, machine, command))
    yield "step.json", as_utf8(as_json(rows, machine, command))
    yield "step.png", picture(rows)
