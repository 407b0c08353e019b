"""The curves of several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiment.curves import plot_over
from experiment.trained.part.recorded_run import RecordedRun
from util.figure import count_along, drawing, printable


def draw_runs(runs: Sequence[RecordedRun], settings: Sequence[str], path: Path) -> None:
    """Test accuracy and training loss over the epochs, a colour for each run.

    settings: the flags of which a run's name in the picture has those that differ.
    Raises: ValueError if no run has a complete epoch; OSError if it cannot be written.
    """
    begun = [run for run in runs if run.records]
    if not begun:
        raise ValueError("--picture: no run has a complete epoch yet")
    names = distinct_names(begun, settings)
    with drawing(path, 11, 4.5 + 0.2 * len(begun)) as figure:
        accuracy, loss = figure.subplots(1, 2)
        for number, (run, name) in enumerate(zip(begun, names, strict=True)):
            style = {
                "label": name,
                "color": f"C{number}",
                "linestyle": ("-", "--")[number // 10 % 2],
            }
            plot_over(accuracy, *run.curve("test/top1"), **style)
            plot_over(loss, *run.curve("train/total"), **style)
        accuracy.set(title="test accuracy", ylabel="top-1 accuracy (%)")
        loss.set(title="training loss", ylabel="loss")
        for panel in (accuracy, loss):
            panel.set_xlabel("epoch")
            count_along(panel.xaxis)
            panel.grid(alpha=0.3)
        figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center")


def distinct_names(runs: Sequence[RecordedRun], settings: Sequence[str]) -> list[str]:
    """What tells each run from the others: the settings that differ, or its folder."""
    values = {name: [run.value(name) for run in runs] for name in settings}
    differing = [name for name in settings if len(set(map(str, values[name]))) > 1]
    names = [
        ", ".join(f"{name} {values[name][number]}" for name in differing)
        for number in range(len(runs))
    ]
    if len(set(names)) < len(runs):
        names = [run.folder.absolute().name for run in runs]
    return [printable(name) for name in names]
