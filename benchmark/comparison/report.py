"""The tables of a comparison, as markdown, and all of it as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.comparison_picture import picture
from benchmark.comparison.summary import CHOICES, Entry, Pair
from benchmark.speed.measure import machine_in_words
from util.figure import as_utf8, markdown_table
from util.file.atomic import write_atomically

NOTES = "\n".join(f"- test {key}: accuracy on the test set {text}" for key, text in CHOICES.items())
HEADER = ("name", "method", "teacher", "arch", "T", "runs", *(f"test {key}" for key in CHOICES))


def write_results(output: Path, entries: Sequence[Entry], heading: dict[str, Any]) -> None:
    """Write results.md, results.json and results.png; heading: what they say beside the numbers."""
    record = {**heading, "rows": list(entries)}
    write_atomically(output / "results.md", as_utf8(markdown(entries, heading)))
    write_atomically(output / "results.json", as_utf8(json.dumps(record, indent=1) + "\n"))
    write_atomically(output / "results.png", picture(entries, heading["title"]))


def markdown(entries: Sequence[Entry], heading: dict[str, Any]) -> str:
    """Title, command and machine, then accuracies and costs, time steps, heads, reliability."""
    described = machine_in_words(heading["machine"])
    branched = [entry for entry in entries if len(entry["mean"]["heads"]) > 1]
    parts = [
        f"# Comparison: {heading['title']}",
        f"    {heading['command']}",
        f"{described}; {heading['jobs']} run(s) at a time, {heading['threads']} thread(s) each; "
        f"seeds {', '.join(map(str, heading['seeds']))}",
        heading["note"],
        f"Flags of every run: `{heading['shared']}`",
        _main_table(entries),
        *(
            f"Failed: {entry['name']}, seed {seed}: {problem}"
            for entry in entries
            for seed, problem in entry["problems"].items()
        ),
        "Mean ± sample standard deviation over the seeds, top-1 in %. Seconds: training alone, "
        "median epoch. Peak: memory of the whole process, or of the GPU.",
        NOTES,
        "### Stopped after fewer time steps",
        _series_table(entries, "steps", "t"),
        "### Heads (branches in order, the spiking network last)",
        _series_table(entries, "heads", "head"),
        "### Training samples that a head gets right, by epoch",
        _series_table(branched, "reliable", "epoch", first=0),
    ]
    return "\n\n".join(part for part in parts if part is not None) + "\n"


def _main_table(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        mean = entry["mean"]
        teacher = entry["teacher"] if entry["method"] == "esd" and entry["beta"] else ""
        settings = [entry["name"], entry["method"], teacher, entry["arch"], str(entry["T"])]
        accuracies = [_plus_minus(mean[key], 2) for key in CHOICES]
        costs = [_plus_minus(mean["seconds"], 1), _plus_minus(mean["peak_mebibytes"], 0)]
        rows.append([*settings, str(len(entry["runs"])), *accuracies, *costs])
    return markdown_table((*HEADER, "s per epoch", "peak MiB"), rows, left=4)


def _series_table(entries: Sequence[Entry], key: str, column: str, first: int = 1) -> str:
    """Means of a series, one column per element; short series leave cells empty."""
    length = max((len(entry["mean"][key]) for entry in entries), default=0)
    if not length:
        return "none"
    rows = []
    for entry in entries:
        means = [f"{mean:.2f}" for mean, _ in entry["mean"][key]]
        rows.append([entry["name"], *means, *[""] * (length - len(means))])
    header = ["name", *(f"{column} {number}" for number in range(first, first + length))]
    return markdown_table(header, rows)


def _plus_minus(pair: Pair | None, digits: int) -> str:
    if pair is None:
        return ""
    mean, deviation = pair
    text = f"{mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"
