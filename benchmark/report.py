"""Tables and pictures of what the benchmarks measured."""

from __future__ import annotations

import io
import json
from typing import NamedTuple

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
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = (
        ("seconds", 1e3, "ms per step"),
        ("saved", 1 / MEBIBYTE, "kept for backward, MiB per sample"),
        ("peak", 1 / MEBIBYTE, "peak, MiB per sample"),
    )
    settings = list(dict.fromkeys(row.branches for row in rows))
    figure, axes = pyplot.subplots(
        len(settings), len(panels), figsize=(5 * len(panels), 1 + 4 * len(settings)),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for branches, line_of_axes in zip(settings, axes, strict=True):
        for (field, unit, label), axis in zip(panels, line_of_axes, strict=True):
            _draw(axis, [r for r in rows if r.branches == branches], field, unit)
            axis.set(xlabel="time steps T", ylabel=label, ylim=(0, None))
            axis.set_xticks(sorted({row.T for row in rows}))
            axis.set_title("with branches" if branches else "without branches")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    pyplot.close(figure)
    return buffer.getvalue()


def _draw(axis, rows: list[Row], field: str, unit: float) -> None:
    for name in dict.fromkeys(row.name for row in rows):
        own = [r for r in rows if r.name == name and getattr(r, field) is not None]
        if own:
            values = [unit * getattr(r, field) for r in own]
            axis.plot([r.T for r in own], values, marker="o", label=own[0].text)


def report_files(rows: list[Row], machine: dict, command: str) -> dict[str, bytes]:
    """step.md, step.json and step.png."""
    return {
        "step.md": markdown(rows, machine, command).encode(),
        "step.json": as_json(rows, machine, command).encode(),
        "step.png": picture(rows),
    }
