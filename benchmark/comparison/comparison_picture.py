"""The picture of a comparison: accuracy, accuracy against time, time steps, reliability."""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmark.comparison.metric import training_time
from benchmark.comparison.summary import Entry
from util.figure import count_along, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Colours = dict[str, str]  # by the name of the row


def picture(entries: Sequence[Entry], title: str) -> bytes:
    """PNG with four panels; rows without a complete run are left out."""
    entries = [entry for entry in entries if entry["runs"]]
    branched = [entry for entry in entries if len(entry["mean"]["heads"]) > 1]
    colours = {entry["name"]: f"C{number % 10}" for number, entry in enumerate(entries)}
    content = io.BytesIO()
    with drawing(content, 13, 9, title.replace("_", " "), dpi=100) as figure:
        (accuracy, cost), (steps, reliable) = figure.subplots(2, 2)
        _accuracies(accuracy, entries, colours)
        _costs(cost, entries, colours)
        _series(steps, entries, colours, "steps", 1)
        steps.set(xlabel="time steps taken", ylabel="test top-1 (%)", title="stopped early")
        _series(reliable, branched, colours, "reliable", 0)
        reliable.set(xlabel="epoch", ylabel="share of training samples (%)")
        reliable.set_title("samples that a head gets right")
    return content.getvalue()


def _accuracies(axes: Axes, entries: Sequence[Entry], colours: Colours) -> None:
    """Mean and deviation as a point with whiskers, every run as a small dot."""
    for place, entry in enumerate(reversed(entries)):
        mean, deviation = entry["mean"]["last"]
        colour = colours[entry["name"]]
        axes.errorbar(mean, place, xerr=deviation, fmt="o", color=colour, capsize=4)
        runs = [run["last"] for run in entry["runs"].values()]
        axes.plot(runs, [place - 0.22] * len(runs), ".", color=colour, alpha=0.5)
    axes.set_yticks(range(len(entries)), [entry["name"] for entry in reversed(entries)])
    axes.set(xlabel="test top-1 (%)", title="after the last epoch, mean ± deviation")
    axes.grid(axis="x", alpha=0.3)


def _costs(axes: Axes, entries: Sequence[Entry], colours: Colours) -> None:
    for entry in entries:
        times = [training_time(run) or run["training_seconds"] for run in entry["runs"].values()]
        seconds, top1 = statistics.fmean(times), entry["mean"]["last"][0]
        axes.plot(seconds, top1, "o", color=colours[entry["name"]], label=entry["name"])
    axes.set(
        xlabel="seconds of training in all (without a GPU: of the processor)",
        ylabel="test top-1 (%)",
        xlim=(0, 1.05 * axes.dataLim.x1),
    )
    axes.set_title("accuracy and time")
    _finish(axes, entries)


def _series(axes: Axes, entries: Sequence[Entry], colours: Colours, key: str, first: int) -> None:
    """Mean over the seeds as a line, the deviation as a band; `first`: where it begins."""
    for entry in entries:
        pairs, colour = entry["mean"][key], colours[entry["name"]]
        x = range(first, first + len(pairs))
        means = [mean for mean, _ in pairs]
        axes.plot(x, means, "o-", markersize=3, color=colour, label=entry["name"])
        low, high = ([m + sign * (d or 0) for m, d in pairs] for sign in (-1, 1))
        axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    longest = max((len(entry["mean"][key]) for entry in entries), default=1)
    axes.set_xlim(first - 0.5, first + longest - 0.5)
    count_along(axes.xaxis)
    _finish(axes, entries)


def _finish(axes: Axes, entries: Sequence[Entry]) -> None:
    axes.grid(alpha=0.3)
    if entries:
        axes.legend(fontsize=9)
