"""The tables of a comparison, as markdown, and all of it as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.comparison_picture import picture
from benchmark.comparison.contrast import others_in_words, primary_in_words
from benchmark.comparison.metric import made_on_gpu
from benchmark.comparison.provenance import origins_in_words
from benchmark.comparison.summary import CHOICES, Entry, Pair
from benchmark.speed.measure import machine_in_words
from util.figure import as_utf8, markdown_table
from util.file.atomic import write_atomically

CHOSEN = "\n".join(
    f"- test {key}: accuracy on the test set {text}" for key, text in CHOICES.items()
)
HOW_TO_READ = f"""Mean ± sample standard deviation over the seeds, top-1 in %. Training s and CPU s:
all epochs, by the clock and, without a GPU, of the processor, which other programs hardly change; s
per epoch: their median by the clock. Peak: memory of the whole process, or of the GPU.

How to read: the test accuracies answer different questions and are never mixed; a number is
compared with others of its own column alone.

{CHOSEN}"""
SETTINGS = ("name", "method", "teacher", "arch", "T", "runs")
MOST = 12  # columns of a series
COSTS = ("training s", "CPU s", "s per epoch", "peak MiB")


def write_results(output: Path, entries: Sequence[Entry], heading: dict[str, Any]) -> None:
    """Write results.md, results.json and results.png; heading: what they say beside the numbers."""
    record = {**heading, "rows": list(entries)}
    write_atomically(output / "results.md", as_utf8(markdown(entries, heading)))
    write_atomically(output / "results.json", as_utf8(json.dumps(record, indent=1) + "\n"))
    write_atomically(output / "results.png", picture(entries, heading["title"]))


def markdown(entries: Sequence[Entry], heading: dict[str, Any]) -> str:
    """Title, primary contrast, command and machine, then accuracies and costs, other contrasts,
    time steps, heads, reliability."""
    described = machine_in_words(heading["machine"])
    branched = [entry for entry in entries if len(entry["mean"]["heads"]) > 1]
    parts = [
        f"# Comparison: {heading['title']}",
        primary_in_words(heading["contrasts"]),
        f"    {heading['command']}",
        f"{described}; {heading['jobs']} run(s) at a time, {heading['threads']} thread(s) each; "
        f"seeds {', '.join(map(str, heading['seeds']))}{_test_set(entries)}",
        heading["note"],
        origins_in_words(entries, heading["machine"]),
        f"Flags of every run: `{heading['shared']}`",
        _own_flags(heading["own"]),
        _main_table(entries),
        *(
            f"Failed: {entry['name']}, seed {seed}: {problem}"
            for entry in entries
            for seed, problem in entry["problems"].items()
        ),
        HOW_TO_READ,
        others_in_words(heading["contrasts"]),
        "### Stopped after fewer time steps",
        _series_table(entries, "steps", "t", also="area"),
        "Area: mean over the time steps.",
        "### Heads (branches in order, the spiking network last)",
        _series_table(entries, "heads", "head"),
        "### Training samples that a head gets right, by epoch",
        _series_table(branched, "reliable", "epoch", first=0),
    ]
    return "\n\n".join(part for part in parts if part is not None) + "\n"


def _own_flags(flags: dict[str, str]) -> str | None:
    """By what the rows differ."""
    return "\n".join(f"- {name}: `{own}`" for name, own in flags.items() if own) or None


def _test_set(entries: Sequence[Entry]) -> str:
    """How many test images there are, where all runs say the same."""
    sizes = {run["samples"] for entry in entries for run in entry["runs"].values()}
    return f"; {sizes.pop():,} test images" if len(sizes) == 1 and None not in sizes else ""


def _main_table(entries: Sequence[Entry]) -> str:
    """Of the accuracies those that any row has."""
    rows = []
    shown = [key for key in CHOICES if any(entry["mean"][key] for entry in entries)]
    for entry in entries:
        mean, runs = entry["mean"], entry["runs"].values()
        teacher = entry["teacher"] if entry["method"] == "esd" and entry["beta"] else ""
        settings = [entry["name"], entry["method"], teacher, entry["arch"], str(entry["T"])]
        accuracies = [_plus_minus(mean[key], 2) for key in shown]
        cpu = None if any(map(made_on_gpu, runs)) else mean["training_cpu_seconds"]
        times = [_plus_minus(pair, 1) for pair in (mean["training_seconds"], cpu, mean["seconds"])]
        peak = _plus_minus(mean["peak_mebibytes"], 0)
        rows.append([*settings, str(len(runs)), *accuracies, *times, peak])
    header = (*SETTINGS, *(f"test {key}" for key in shown), *COSTS)
    return markdown_table(header, rows, left=4)


def _series_table(
    entries: Sequence[Entry], key: str, column: str, *, first: int = 1, also: str | None = None
) -> str:
    """One column per element of a series, and a number; short series leave cells empty.

    Of a long series MOST elements, evenly chosen, the first and the last among them.
    """
    length = max((len(entry["mean"][key]) for entry in entries), default=0)
    if not length:
        return "none"
    more = [] if also is None else [also]
    shown = range(length)
    if length > MOST:
        shown = [round(i * (length - 1) / (MOST - 1)) for i in range(MOST)]
    rows = []
    for entry in entries:
        series = entry["mean"][key]
        cells = [_plus_minus(series[i], 2) if i < len(series) else "" for i in shown]
        own = [_plus_minus(entry["mean"][name], 2) for name in more]
        rows.append([entry["name"], *cells, *own])
    header = ["name", *(f"{column} {first + i}" for i in shown), *more]
    return markdown_table(header, rows)


def _plus_minus(pair: Pair | None, digits: int) -> str:
    if pair is None:
        return ""
    mean, deviation = pair
    text = f"{mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"
