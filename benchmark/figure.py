"""Draw figure.PNG: the method as a picture, and beside it what one training step costs.

    python benchmark/cost.py --methods esd esd_sparse rate bptt bptt_checkpointed sltt ottt \\
      --output docs/benchmark
    python benchmark/figure.py --measured docs/benchmark/cost.json --output figure.PNG

The curves are read from the file that the first command wrote; nothing is drawn from memory.
"""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmark.command import Parser, run
from benchmark.cost_report import Cost, draw
from experiment.flag_parser import expanded_path
from util.figure import drawing
from util.file_kind import Kind, kind_of_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {  # property of Cost: its axis
    "milliseconds": "step, ms",
    "backward_milliseconds": "backward passes, ms",
    "kept_per_sample": "kept for backward,\nMiB per sample",
}
WRITER = "benchmark/cost.py"
SPIKE, RATE, BRANCH, TEACHER = "#37474f", "#1565c0", "#2e7d32", "#c62828"


def outline(
    axes: Axes, x: float, y: float, width: float, height: float, **style: str | float
) -> None:
    """A rounded rectangle around (x, y)."""
    from matplotlib.patches import FancyBboxPatch

    corner, shape = (x - width / 2, y - height / 2), "round,pad=0.02,rounding_size=0.1"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, **style))


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str) -> None:
    """A rounded box around (x, y) with centred text."""
    outline(axes, x, y, width, height, facecolor=color, edgecolor="none", alpha=0.92)
    axes.text(x, y, text, ha="center", va="center", color="white", fontsize=10)


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, *,
    dashed: bool = False, bend: float = 0.0,
) -> None:  # fmt: skip
    """An arrow between two points."""
    from matplotlib.patches import FancyArrowPatch

    patch = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=13, color=color, linewidth=1.8,
        linestyle="--" if dashed else "-", connectionstyle=f"arc3,rad={bend}",
    )  # fmt: skip
    axes.add_patch(patch)


def raster(axes: Axes, x: float, y: float, generator: np.random.Generator) -> None:
    """A small spike train: four neurons over T steps."""
    for neuron in range(4):
        times = np.flatnonzero(generator.random(7) < 0.35)
        row = y + 0.11 * neuron
        axes.plot(x + 0.09 * times, np.full(len(times), row), "|", color=SPIKE, markersize=6)


def draw_method(axes: Axes) -> None:
    """Spiking stages below, their rates and ANN branches above, the reliable teacher on top."""
    axes.set(xlim=(0, 13.2), ylim=(0, 8.1))
    axes.axis("off")
    generator = np.random.default_rng(1)
    columns = (2.3, 4.7, 7.1, 9.5)
    box(axes, 0.65, 1.2, 1.0, 0.8, "image", "#616161")
    for i, x in enumerate(columns):
        box(axes, x, 1.2, 1.5, 0.8, f"spiking\nstage {i + 1}", SPIKE)
        arrow(axes, ((columns[i - 1] + 0.8) if i else 1.2, 1.2), (x - 0.8, 1.2), SPIKE)
        raster(axes, x + 0.92, 1.42, generator)
        if i:
            arrow(axes, (x - 0.75, 0.55), (columns[i - 1] + 0.75, 0.55), RATE, dashed=True)
        arrow(axes, (x, 1.65), (x, 2.62), RATE)
        axes.text(x + 0.1, 2.12, "rate $r$", color=RATE, fontsize=9, va="center")
        own = i == len(columns) - 1
        name = "classifier" if own else f"ANN branch {i + 1}"
        box(axes, x, 3.05, 1.7, 0.8, name, RATE if own else BRANCH)
        arrow(axes, (x, 3.5), (x, 4.26), RATE if own else BRANCH)
        logits = "$z_4$" if own else f"$z_{i + 1}$"
        right = i not in (1,)  # an example of a sample that one branch gets wrong
        axes.text(
            x,
            4.62,
            f"{logits}  {'✓' if right else '✗'}",
            ha="center",
            va="center",
            fontsize=14,
            color=TEACHER if right else "#9e9e9e",
            family="DejaVu Sans",
        )
        if right:
            arrow(axes, (x, 5.02), (5.9 + 0.28 * (i - 1.5), 6.42), TEACHER)
    box(axes, 5.9, 6.85, 4.6, 0.8, "teacher = mean of the heads that are right", TEACHER)
    axes.text(5.9, 7.72, "each sample's reliable teacher; no head right: no soft loss",
              ha="center", fontsize=10, color=TEACHER)  # fmt: skip
    outline(axes, 5.9, 4.62, 9.1, 0.68, facecolor="none", edgecolor="#9e9e9e", linestyle=":")
    arrow(axes, (8.25, 6.85), (11.9, 5.35), TEACHER, dashed=True, bend=-0.3)
    lesson = "every head learns from\nthe label (hard loss)\nand the teacher\n(soft loss)"
    axes.text(11.95, 4.62, lesson, color="#424242", fontsize=9, ha="center", va="center")
    axes.text(5.9, 0.08, "spikes run forward T steps without a graph; one backward pass through "
              r"rates (dashed), $\partial r/\partial x$ = eligibility $e$",
              color=RATE, fontsize=10, ha="center")  # fmt: skip


def draw_figure(measured: dict) -> bytes:
    """The whole figure as PNG."""
    rows = [Cost(**row) for row in measured["rows"]]
    conditions = measured["machine"]
    where = conditions.get("gpu", conditions["processor"])
    content = io.BytesIO()
    with drawing(content, 15, 7.3, mathematics=True) as figure:
        grid = figure.add_gridspec(3, 2, width_ratios=(2.1, 1))
        draw_method(figure.add_subplot(grid[:, 0]))
        panels = [figure.add_subplot(grid[row, 1]) for row in range(3)]
        for axes, (field, label) in zip(panels, PANELS.items(), strict=True):
            draw(axes, rows, field)
            axes.set_ylabel(label)
        for axes in panels[:-1]:
            axes.set_xlabel("")
        panels[0].set(title=f"{conditions['arch']}, batch {rows[0].batch}, {where}")
        panels[0].legend(fontsize=7, ncols=2)
    return content.getvalue()


def read_measured(path: Path) -> dict[str, Any]:
    """What cost.py wrote. Raises: OSError; ValueError that says what the file is instead."""
    kind = kind_of_file(path)
    if kind not in (None, Kind.TEXT):
        raise ValueError(f"it is {kind}")
    measured = json.loads(path.read_bytes())
    if not isinstance(measured, dict):
        raise ValueError("it holds no object")
    writer = re.search(r"benchmark/\w+\.py", str(measured.get("command")))
    if writer is not None and writer[0] != WRITER:
        raise ValueError(f"it is what {writer[0]} wrote")
    rows = measured.get("rows")
    if not rows or any(set(row) != set(Cost._fields) for row in rows):
        raise ValueError("it has no rows of methods and their costs")
    return measured


def main(argv: list[str] | None = None) -> None:
    """Read the measurements, write the picture."""
    parser = Parser(__doc__)
    parser.add_argument("--measured", type=expanded_path, default=Path("docs/benchmark/cost.json"),
                        help="what cost.py wrote (default: %(default)s)")  # fmt: skip
    parser.add_argument("--output", type=expanded_path, default=Path("figure.PNG"),
                        help="picture to write (default: %(default)s)")  # fmt: skip
    args = parser.parse_args(argv)
    try:
        picture = draw_figure(read_measured(args.measured))
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        parser.error(
            f"--measured {args.measured} cannot be drawn ({reason}): expected the cost.json that "
            f"{WRITER} writes"
        )
    parser.write(args.output.parent, [(args.output.name, picture)])


if __name__ == "__main__":
    run(main)
