"""The curves of a run: curves.png, drawn from metrics.jsonl when its training ends.

python experiment/curves.py runs/FOLDER     draws them at any time, of a run in progress too
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from experiment.flag.kinds import expanded_path
from experiment.flag.parser import FlagParser
from experiment.train.failure import one_sentence_errors
from experiment.train.folder import best_of, evaluated
from util.figure import count_along, drawing
from util.file.record import MetricsFile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = list[dict[str, Any]]
COLUMNS = 4  # names in a row of a legend


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Panels over the epochs: loss, test accuracy by head, reliable fraction, firing rates.

    What belongs to distillation is left out of runs without it. The picture is replaced whole,
    never left half-written.
    Raises: OSError if it cannot be written.
    """
    taught = distils(records)
    drawn = [_losses, _accuracies, *([_reliable] if taught else []), _firing_rates]
    rooms = [[0, 1], [2, 3 if taught else 2]]
    with drawing(path, 11, 8.5, layout=None) as figure:
        # Half as long as an automatic layout, which draws everything twice.
        figure.subplots_adjust(0.07, 0.06, 0.98, 0.91, wspace=0.2, hspace=0.42)
        panels = figure.subplot_mosaic(rooms)
        for number, draw in enumerate(drawn):
            panel = panels[number]
            draw(panel, records)
            legend_above(panel)
            panel.set_xlabel("epoch")
            count_along(panel.xaxis)
            panel.grid(alpha=0.3)


def distils(records: Sequence[dict[str, Any]]) -> bool:
    """Whether heads learn from a teacher: there are branches, and --beta is not 0.

    Where no head is ever right, which --beta it was leaves no trace: it is taken not to be 0.
    """
    epochs = [record["train"] for record in records if len(record["train"]["head_top1"]) > 1]
    return any(epoch["total"] != epoch["hard"] or epoch["reliable"] == 0 for epoch in epochs)


def legend_above(panel: Axes) -> None:
    """The names of the lines, where they hide none: between the panel and its title."""
    names = panel.get_legend_handles_labels()[1]
    rows = -(-len(names) // COLUMNS)
    panel.set_title(panel.get_title(), pad=8 + 13 * rows)
    if names:
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "borderaxespad": 0.2}
        sizes = {"fontsize": 8.5, "columnspacing": 1, "handlelength": 1.6, "labelspacing": 0.3}
        panel.legend(ncols=min(len(names), COLUMNS), frameon=False, **place, **sizes)


def plot_over(panel: Axes, epochs: list[int], values: list[float], **style: Any) -> None:
    """A line, or points where there are too few for one to be seen."""
    panel.plot(epochs, values, marker="o" if len(epochs) < 3 else None, **style)


def plot_each(panel: Axes, records: Records, value: Callable[[Any], float], **style: Any) -> None:
    """A number of each record over its epoch."""
    epochs = [record["epoch"] for record in records]
    plot_over(panel, epochs, [value(record) for record in records], **style)


def _losses(panel: Axes, records: Records) -> None:
    labels = {"total": "total"}
    if distils(records):
        labels = {
            "total": "total = hard + β soft",
            "hard": "hard (cross-entropies)",
            "soft": "soft (distillation)",
        }
    for name, label in labels.items():
        plot_each(panel, records, lambda record, name=name: record["train"][name], label=label)
    panel.set(title="training loss", ylabel="loss")


def _accuracies(panel: Axes, records: Records) -> None:
    heads, tested = len(records[0]["train"]["head_top1"]), evaluated(records)
    for head in range(heads):
        own = head == heads - 1
        label = "spiking network" if own else f"branch {head + 1}"
        style = {"label": label, "linewidth": 2.2 if own else 1.1}
        plot_each(panel, tested, lambda r, head=head: r["test"]["head_top1"][head], **style)
    style = {"label": "training set", "linestyle": ":", "color": "gray"}
    plot_each(panel, records, lambda record: record["train"]["head_top1"][-1], **style)
    validated = [record for record in records if "validation" in record]
    if validated:
        style = {"label": "validation set", "linestyle": "--", "color": "black", "linewidth": 1.1}
        plot_each(panel, validated, lambda record: record["validation"]["top1"], **style)
    averaged = [record for record in records if "ema" in record]
    if averaged:
        style = {"label": "ema", "linestyle": "-.", "color": "tab:pink", "linewidth": 1.6}
        plot_each(panel, averaged, lambda record: record["ema"]["test"]["top1"], **style)
    best = best_of(records)
    if best is not None:
        point = [best["epoch"]], [best["test"]["top1"]]
        star = {"color": "black", "markerfacecolor": "none", "markersize": 13, "zorder": 3}
        panel.plot(*point, "*", **star, label=f"best epoch ({best['epoch']})")
    panel.set(title="accuracy of each head on the test set", ylabel="top-1 accuracy (%)")


def _reliable(panel: Axes, records: Records) -> None:
    plot_each(panel, records, lambda record: 100 * record["train"]["reliable"])
    panel.set(title="training samples with a reliable teacher", ylabel="share of samples (%)")
    panel.set_ylim(0, 102)


def _firing_rates(panel: Axes, records: Records) -> None:
    tested = evaluated(records)
    names = list(tested[0]["test"]["firing_rate"]) if tested else []
    for i, name in enumerate(names):
        shade = (0.15 + 0.75 * i / max(len(names) - 1, 1),) * 3
        color = (shade[0], 0.35, 1 - shade[0])
        label = name if i in (0, len(names) - 1) else None
        style = {"color": color, "linewidth": 1, "label": label}
        plot_each(panel, tested, lambda r, name=name: r["test"]["firing_rate"][name], **style)
    panel.set(title="firing rate of each spiking layer (test)", ylabel="spikes per time step")
    panel.set_ylim(bottom=0)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the curves of the run folder that the command line names.

    Raises: SystemExit with code 2 for a folder without the records of a run.
    """
    parser = FlagParser("Draw curves.png from the metrics.jsonl of a run.")
    parser.add_argument("folder", type=expanded_path, metavar="FOLDER", help="the run's folder")
    folder = parser.parse_args(argv).folder
    with one_sentence_errors({}, interrupted="stopped"):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}: name that of a run")
        metrics = MetricsFile(folder / "metrics.jsonl")
        try:
            records = metrics.read()
            if not records:
                raise ValueError("no epoch is complete there")
            draw_curves(records, folder / "curves.png")
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{metrics.path} has no curves to draw: {error!s}") from error
    print(f"wrote {folder / 'curves.png'}: {len(records)} epochs")


if __name__ == "__main__":
    main()
