"""Draw figure.PNG: the method as a picture, and beside it what one training step costs.

    python -m benchmark.speed.cost --methods esd esd_sparse rate bptt bptt_checkpointed sltt ottt \\
      --output docs/benchmark
    python -m benchmark.speed.readme_figure --measured docs/benchmark/cost.json --output figure.PNG

The curves are read from the file that the first command wrote; nothing is drawn from memory.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.speed.command import Parser, run
from benchmark.speed.cost_report import QUANTITIES, Cost, CostReport, draw_cost
from experiment.flag.kinds import expanded_path
from util.figure import drawing
from util.file.kind import Kind, kind_of_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = {  # a text of QUANTITIES: the axis here, which has less room
    "ms per training step": "step, ms",
    "ms in the step's backward passes": "backward passes, ms",
    "kept for backward, MiB per sample": "kept for backward,\nMiB per sample",
}
WRITER = "python -m benchmark.speed.cost"
SPIKE, RATE, BRANCH, TEACHER = "#37474f", "#1565c0", "#2e7d32", "#c62828"
GREY, DARK_GREY, IMAGE = "#9e9e9e", "#424242", "#616161"
STAGES = (2.3, 4.7, 7.1, 9.5)  # where they stand
WRONG = 1  # an example of a sample that this branch gets wrong

Point = tuple[float, float]


def outline(axes: Axes, centre: Point, size: Point, **style: str | float) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    shape = "round,pad=0.02,rounding_size=0.1"
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=shape, **style))


def box(axes: Axes, centre: Point, width: float, text: str, color: str) -> None:
    outline(axes, centre, (width, 0.8), facecolor=color, edgecolor="none", alpha=0.92)
    axes.text(*centre, text, ha="center", va="center", color="white", fontsize=10)


def arrow(axes: Axes, start: Point, end: Point, color: str, **style: str) -> None:
    from matplotlib.patches import FancyArrowPatch

    line = {"arrowstyle": "-|>", "mutation_scale": 13, "linewidth": 1.8, "color": color}
    axes.add_patch(FancyArrowPatch(start, end, **line, **style))


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
    box(axes, (0.65, 1.2), 1.0, "image", IMAGE)
    for i, x in enumerate(STAGES):
        box(axes, (x, 1.2), 1.5, f"spiking\nstage {i + 1}", SPIKE)
        arrow(axes, (STAGES[i - 1] + 0.8 if i else 1.2, 1.2), (x - 0.8, 1.2), SPIKE)
        raster(axes, x + 0.92, 1.42, generator)
        if i:
            arrow(axes, (x - 0.75, 0.55), (STAGES[i - 1] + 0.75, 0.55), RATE, linestyle="--")
        draw_head(axes, i)
    box(axes, (5.9, 6.85), 4.6, "teacher = mean of the heads that are right", TEACHER)
    text = "each sample's reliable teacher; no head right: no soft loss"
    axes.text(5.9, 7.72, text, ha="center", fontsize=10, color=TEACHER)
    outline(axes, (5.9, 4.62), (9.1, 0.68), facecolor="none", edgecolor=GREY, linestyle=":")
    bend = {"linestyle": "--", "connectionstyle": "arc3,rad=-0.3"}
    arrow(axes, (8.25, 6.85), (11.9, 5.35), TEACHER, **bend)
    text = "every head learns from\nthe label (hard loss)\nand the teacher\n(soft loss)"
    axes.text(11.95, 4.62, text, color=DARK_GREY, fontsize=9, ha="center", va="center")
    text = "spikes run forward T steps without a graph; one backward pass through rates (dashed), "
    text += r"$\partial r/\partial x$ = eligibility $e$"
    axes.text(5.9, 0.08, text, color=RATE, fontsize=10, ha="center")


def draw_head(axes: Axes, i: int) -> None:
    """What stands on stage i: a branch, or behind the last the classifier, and its logits."""
    x, is_last = STAGES[i], i == len(STAGES) - 1
    name, color = ("classifier", RATE) if is_last else (f"ANN branch {i + 1}", BRANCH)
    arrow(axes, (x, 1.65), (x, 2.62), RATE)
    axes.text(x + 0.1, 2.12, "rate $r$", color=RATE, fontsize=9, va="center")
    box(axes, (x, 3.05), 1.7, name, color)
    arrow(axes, (x, 3.5), (x, 4.26), color)
    mark, color = ("✗", GREY) if i == WRONG else ("✓", TEACHER)
    font = {"fontsize": 14, "family": "DejaVu Sans", "color": color}
    axes.text(x, 4.62, f"$z_{i + 1}$  {mark}", ha="center", va="center", **font)
    if i != WRONG:
        arrow(axes, (x, 5.02), (5.9 + 0.28 * (i - 1.5), 6.42), TEACHER)


def draw_figure(report: CostReport) -> bytes:
    content = io.BytesIO()
    with drawing(content, 15, 7.3, mathematics=True) as figure:
        grid = figure.add_gridspec(3, 2, width_ratios=(2.1, 1))
        draw_method(figure.add_subplot(grid[:, 0]))
        panels = [figure.add_subplot(grid[row, 1]) for row in range(3)]
        quantities = [quantity for quantity in QUANTITIES if quantity.text in PANELS]
        for axes, quantity in zip(panels, quantities, strict=True):
            draw_cost(axes, report.rows, quantity)
            axes.set_ylabel(PANELS[quantity.text])
        for axes in panels[:-1]:
            axes.set_xlabel("")
        panels[0].set(title=report.setting())
        panels[0].legend(fontsize=7, ncols=2)
    return content.getvalue()


def read_measured(path: Path) -> CostReport:
    """What `cost` wrote. Raises: OSError; ValueError that says what the file is instead."""
    kind = kind_of_file(path)
    if kind not in (None, Kind.TEXT):
        raise ValueError(f"it is {kind}")
    measured = json.loads(path.read_bytes())
    if not isinstance(measured, dict):
        raise ValueError("it holds no object")
    command = str(measured.get("command"))
    # Files of before the commands were modules name the path of a script.
    writer = re.search(r"benchmark[./](?:\w+\.)*(?!py\b)(\w+)", command)
    if writer is not None and writer[1] != "cost":
        raise ValueError(f"it is what benchmark's {writer[1]} wrote")
    rows = measured.get("rows")
    if not rows or any(set(row) != set(Cost._fields) for row in rows):
        raise ValueError("it has no rows of methods and their costs")
    return CostReport([Cost(**row) for row in rows], measured["machine"], command)


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    text = "what benchmark.speed.cost wrote (default: %(default)s)"
    add("--measured", type=expanded_path, default=Path("docs/benchmark/cost.json"), help=text)
    text = "picture to write (default: %(default)s)"
    add("--output", type=expanded_path, default=Path("figure.PNG"), help=text)
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
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
