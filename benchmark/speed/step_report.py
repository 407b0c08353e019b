"""What `step` and `cost` write: the same rows as Markdown, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from benchmark.speed.measure import MEBIBYTE, machine_in_words
from util.figure import as_utf8, drawing, markdown_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Report:
    """Rows, and what they were measured on and by. A class of its own says how they are shown.

    name: of its files; title: of its page.
    """

    rows: Sequence[Any]
    machine: dict[str, Any]
    command: str
    name: ClassVar[str]
    title: ClassVar[str]

    def sections(self) -> Iterator[tuple[str, str]]:
        raise NotImplementedError

    def picture(self) -> bytes:
        """PNG."""
        raise NotImplementedError

    def conditions(self) -> str:
        return machine_in_words(self.machine)

    def markdown(self) -> str:
        parts = [f"# {self.title}", f"    {self.command}", self.conditions()]
        parts += [f"### {heading}\n\n{table}" for heading, table in self.sections()]
        return "\n\n".join(parts) + "\n"

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Names and contents; the picture is drawn when the others have been taken."""
        yield f"{self.name}.md", as_utf8(self.markdown())
        rows = [row._asdict() for row in self.rows]
        record = {"command": self.command, "machine": self.machine, "rows": rows}
        yield f"{self.name}.json", as_utf8(json.dumps(record, indent=1) + "\n")
        yield f"{self.name}.png", self.picture()


class StepRow(NamedTuple):
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


STEP_COLUMNS = (
    "step",
    "ms",
    "speed-up over two-stage",
    "times the floor",
    "kept for backward, MiB per sample",
    "peak, MiB per sample",
)
STEP_PANELS = (  # field, factor, label of the axis
    ("seconds", 1e3, "ms per step"),
    ("saved", 1 / MEBIBYTE, "kept for backward, MiB per sample"),
    ("peak", 1 / MEBIBYTE, "peak, MiB per sample"),
)


class StepReport(Report):
    """A table for each (branches, T): speed-ups against `two_stage`, distance to `floor`."""

    name, title = "step", "Training steps"
    rows: Sequence[StepRow]

    def sections(self) -> Iterator[tuple[str, str]]:
        for branches, T in dict.fromkeys((row.branches, row.T) for row in self.rows):
            group = [row for row in self.rows if (row.branches, row.T) == (branches, T)]
            heading = f"T = {T}, B = {group[0].batch}, {'with' if branches else 'without'} branches"
            firing = next((row.firing for row in group if row.firing is not None), None)
            heading += "" if firing is None else f", mean firing rate {100 * firing:.1f} %"
            yield heading, markdown_table(STEP_COLUMNS, step_cells(group))

    def picture(self) -> bytes:
        settings = list(dict.fromkeys(row.branches for row in self.rows))
        content = BytesIO()
        with drawing(content, 5 * len(STEP_PANELS), 1 + 4 * len(settings), dpi=120) as figure:
            grid = figure.subplots(len(settings), len(STEP_PANELS), squeeze=False)
            for branches, line in zip(settings, grid, strict=True):
                own = [row for row in self.rows if row.branches == branches]
                for panel, axes in zip(STEP_PANELS, line, strict=True):
                    draw_panel(axes, own, *panel)
                    axes.set_title("with branches" if branches else "without branches")
            lines = grid[0][0].get_legend_handles_labels()
            figure.legend(*lines, loc="outside lower center", ncols=5)
        return content.getvalue()


def step_cells(group: Sequence[StepRow]) -> list[list[str]]:
    """Lines of a table, of contestants that were timed in turn."""
    seconds = {row.name: row.seconds for row in group}
    return [
        [
            row.text,
            f"{1e3 * row.seconds:.1f}",
            ratio(seconds.get("two_stage"), row.seconds),
            ratio(row.seconds, seconds.get("floor")),
            ratio(row.saved, MEBIBYTE),
            ratio(row.peak, MEBIBYTE),
        ]
        for row in group
    ]


def ratio(numerator: float | None, denominator: float | None) -> str:
    return "" if numerator is None or denominator is None else f"{numerator / denominator:.2f}"


def draw_panel(axes: Axes, rows: Sequence[StepRow], field: str, factor: float, label: str) -> None:
    """A field against T, a line per contestant that has it."""
    for name, text in dict.fromkeys((row.name, row.text) for row in rows):
        own = [row for row in rows if row.name == name and getattr(row, field) is not None]
        if own:
            values = [factor * getattr(row, field) for row in own]
            axes.plot([row.T for row in own], values, marker="o", label=text)
    axes.set(xlabel="time steps T", ylabel=label, ylim=(0, None))
    axes.set_xticks(sorted({row.T for row in rows}))
