"""The tables of a comparison, as markdown, and all of it as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.comparison.picture import picture
from benchmark.comparison.summary import CHOICES
from util.atomic_file import write_atomically
from util.text import as_utf8

Entry = dict[str, Any]


def markdown(entries: Sequence[Entry], heading: dict[str, Any], seeds: Sequence[int]) -> str:
    """Title, command and machine, then accuracies and costs, time steps, heads, reliability."""
    described = ", ".join(f"{key} {value}" for key, value in heading["machine"].items())
    notes = [f"- test {key}: accuracy on the test set {text}" for key, text in CHOICES.items()]
    parts = [
        f"# Comparison: {heading['title']}",
        f"    {heading['command']}\n\n{described}; {heading['jobs']} run(s) at a time, "
        f"{heading['threads']} thread(s) each; seeds {', '.join(map(str, seeds))}",
        *([heading["note"]] if heading.get("note") else []),
        f"Flags of every run: `{heading['shared']}`",
        _main_table(entries),
        "Mean ± sample standard deviation over the seeds, top-1 in %. Seconds: training alone, "
        "median epoch. Peak: memory of the whole process, or of the GPU.\n\n" + "\n".join(notes),
        "### Stopped after fewer time steps\n\n" + _series_table(entries, "steps", "t"),
        "### Heads (branches in order, the spiking network last)\n\n"
        + _series_table(entries, "heads", "head"),
        "### Training samples that a head gets right, by epoch\n\n"
        + _series_table([e for e in entries if len(e["mean"]["heads"]) > 1], "reliable", "epoch"),
    ]
    return "\n\n".join(parts) + "\n"


def _main_table(entries: Sequence[Entry]) -> str:
    heads = ["name", "method", "teacher", "arch", "T", "runs", *(f"test {key}" for key in CHOICES),
             "s per epoch", "peak MiB"]  # fmt: skip
    lines = ["| " + " | ".join(heads) + " |", "|--|--|--|--|" + "--:|" * (len(heads) - 4)]
    for entry in entries:
        mean = entry["mean"]
        teacher = entry["teacher"] if entry["method"] == "esd" and entry["beta"] else ""
        cells = [entry["name"], entry["method"], teacher, entry["arch"], str(entry["T"])]
        cells.append(str(len(entry["runs"])))
        cells += [_plus_minus(mean[key], 2) for key in CHOICES]
        cells += [_plus_minus(mean["seconds"], 1), _plus_minus(mean["peak_mebibytes"], 0)]
        lines.append("| " + " | ".join(cells) + " |")
    failures = [
        f"\nFailed: {entry['name']}, seed {seed}: {problem}"
        for entry in entries
        for seed, problem in entry["problems"].items()
    ]
    return "\n".join(lines + failures)


def _series_table(entries: Sequence[Entry], key: str, column: str) -> str:
    """Means of a series, one column per element; short series leave cells empty."""
    length = max((len(entry["mean"][key]) for entry in entries), default=0)
    if not length:
        return "none"
    first = 0 if key == "reliable" else 1
    titles = [f"{column} {number + first}" for number in range(length)]
    lines = ["| name | " + " | ".join(titles) + " |", "|--|" + "--:|" * length]
    for entry in entries:
        means = [f"{pair[0]:.2f}" for pair in entry["mean"][key]]
        cells = [entry["name"], *means, *[""] * (length - len(means))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _plus_minus(pair: tuple[float, float | None] | None, digits: int) -> str:
    if pair is None:
        return ""
    mean, deviation = pair
    text = f"{mean:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"


def write_results(
    output: Path, entries: Sequence[Entry], heading: dict[str, Any], seeds: Sequence[int]
) -> list[Path]:
    """Write results.md, results.json and results.png."""
    record = {**heading, "seeds": list(seeds), "rows": list(entries)}
    paths = [output / name for name in ("results.md", "results.json", "results.png")]
    write_atomically(paths[0], as_utf8(markdown(entries, heading, seeds)))
    write_atomically(paths[1], as_utf8(json.dumps(record, indent=1) + "\n"))
    write_atomically(paths[2], picture(entries, heading))
    return paths
