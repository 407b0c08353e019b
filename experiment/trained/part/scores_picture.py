"""The picture of an evaluation: time steps, early exit, confusion, calibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from util.figure import BLUE, GRAY, GREEN, RED, count_along, drawing, label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 20  # classes whose names and counts fit into the confusion matrix
FEW = 10  # images, of which an accuracy says little


def draw_scores(result: dict[str, Any], title: str, path: Path) -> None:
    """Four panels of the result of `scores.percentages`; the file appears whole."""
    title = f"{title}: {result['top1']:.2f} % of {result['samples']:,} test images"
    with drawing(path, 12, 9.5, title) as figure:
        panels = figure.subplots(2, 2)
        _steps(panels[0, 0], result)
        _early_exit(panels[0, 1], result)
        _confusion(figure, panels[1, 0], result)
        _calibration(panels[1, 1], result)


def _steps(panel: Axes, result: dict[str, Any]) -> None:
    curve = [row["t"] for row in result["steps"]], [row["top1"] for row in result["steps"]]
    label = "spiking network, steps 1 to t"
    panel.plot(*curve, "o-", color=BLUE, linewidth=2.2, label=label)
    shades = np.linspace(0.35, 0.8, max(len(result["head_top1"]) - 1, 1))
    for i, accuracy in enumerate(result["head_top1"][:-1]):
        line = {"color": str(shades[i]), "linestyle": ("--", "-.", ":")[i % 3]}
        panel.axhline(accuracy, **line, label=f"branch {i + 1}, all steps")
    panel.set(xlabel="time steps taken t", ylabel="top-1 accuracy (%)")
    panel.set_title("accuracy after t time steps")
    count_along(panel.xaxis)
    panel.grid(alpha=0.3)
    panel.legend()


def _early_exit(panel: Axes, result: dict[str, Any]) -> None:
    rows = result["early_exit"]
    cost, top1 = [row["mean_steps"] for row in rows], [row["top1"] for row in rows]
    panel.plot(cost, top1, "o-", color=GREEN)
    last = None
    for x, y, row in zip(cost, top1, rows, strict=True):
        # A label only where the one before leaves it room (in axes of steps and percent).
        if last is None or abs(x - last) > 0.09 * (max(cost) - min(cost)):
            place = {"textcoords": "offset points", "xytext": (4, -12)}
            panel.annotate(f"{row['threshold']:g}", (x, y), **place, fontsize=8)
            last = x
    panel.set(xlabel="mean time steps taken", ylabel="top-1 accuracy (%)")
    panel.set_title("early exit; labels: confidence to exceed")
    panel.margins(0.12, 0.12)
    panel.grid(alpha=0.3)


def _confusion(figure: Figure, panel: Axes, result: dict[str, Any]) -> None:
    counts = np.array(result["confusion"])
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = panel.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=panel, label="share of the true class (%)")
    panel.set(title="confusion matrix (counts)", xlabel="predicted class", ylabel="true class")
    names = [label_of(name) for name in result["classes"]]
    if len(names) > MOST_NAMED:
        panel.set_title("confusion matrix")
        return
    long_names = max(map(len, names)) > 2
    panel.set_xticks(range(len(names)), names, rotation=90 if long_names else 0)
    panel.set_yticks(range(len(names)), names)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if shares[row, column] > 50 else "black"
            panel.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)


def _calibration(panel: Axes, result: dict[str, Any]) -> None:
    calibration = result["calibration"]
    bins = [b for b in calibration["bins"] if b["samples"]]
    starts, accuracies = [100 * b["from"] for b in bins], [b["accuracy"] for b in bins]
    width = 100 / calibration["number_of_bins"]
    colors = [(BLUE, 0.6 if b["samples"] >= FEW else 0.2) for b in bins]
    shape = {"align": "edge", "color": colors, "edgecolor": "white"}
    label = f"accuracy (pale: under {FEW} images)"
    panel.bar(starts, accuracies, width, **shape, label=label)
    label = "mean confidence of the bin"
    confidences = [b["confidence"] for b in bins]
    panel.plot(confidences, accuracies, "o", color=RED, markersize=4, label=label)
    panel.plot([0, 100], [0, 100], color=GRAY, linestyle="--", label="perfectly calibrated")
    for b in bins:
        panel.text(100 * b["from"] + width / 2, 2, str(b["samples"]), ha="center", fontsize=7)
    panel.set_title(f"calibration: ECE {calibration['ece']:.2f} % (numbers: images per bin)")
    panel.set(xlabel="confidence (%)", ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 109))
    panel.legend()  # where it covers least
    panel.grid(alpha=0.3)
