"""All runs below a folder in one table, and the curves of those listed in one picture.

    python experiment/trained/runs.py runs
    python experiment/trained/runs.py runs --filter dataset=CIFAR100 --show lr --sort best --reverse
    python experiment/trained/runs.py runs/FOLDER runs/OTHER --picture curves.png

last, best: test accuracy in percent, after the last epoch and at the best one, which is chosen on
the validation set where there is one (validation: its accuracy). time: of the training alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.flag.kinds import expanded_path
from experiment.flag.parser import FlagParser
from experiment.train.failure import one_sentence_errors
from experiment.train.folder import best_of, outcome_of
from experiment.trained.part.recorded_run import RecordedRun, read_runs
from experiment.trained.part.runs_picture import draw_runs
from util.figure import as_utf8, csv_lines, markdown_table
from util.file.atomic import write_atomically
from util.file.record import write_json

SETTINGS = ("dataset", "arch", "method", "T", "width", "seed")
REACHED = ("epochs", "num_epoch", "last", "best", "best_epoch", "validation")
COSTS = ("seconds", "peak_memory_mib")

Row = dict[str, Any]  # by column; reason: why a run ended too early, if it said so


def get_parser() -> FlagParser:
    parser = FlagParser("List the runs below some folders.")
    add = parser.add_argument
    text = "a folder of runs, at any depth, or one run's"
    add("folders", type=expanded_path, nargs="+", metavar="FOLDER", help=text)
    several = {"nargs": "+", "default": []}
    text = "list those alone whose flags or columns have these values; default: all"
    add("--filter", type=_condition, **several, metavar="NAME=VALUE", help=text)
    text = "further flags as columns; default: none"
    add("--show", **several, metavar="FLAG", help=text)
    text = "column to sort by; default: in the order of the folders' names"
    add("--sort", metavar="COLUMN", help=text)
    add("--reverse", action="store_true", help="from the largest to the smallest")
    for name, what in (
        ("csv", "the table"),
        ("json", "the table"),
        ("picture", "a picture of their curves"),
    ):
        text = f"where {what} goes too; default: nowhere"
        add(f"--{name}", type=expanded_path, metavar="FILE", help=text)
    return parser


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, such as dataset=Digits: {text!r}")
    return name, value


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run the command line; returns the rows. Raises: SystemExit(2) for wrong input."""
    args = get_parser().parse_args(argv)
    with one_sentence_errors({}, interrupted="stopped"):
        runs, problems = read_all(args.folders)
        listed = [(row_of(run, args.show), run) for run in runs]
        listed = [each for each in listed if all(has(*each, *wanted) for wanted in args.filter)]
        if not listed:
            raise ValueError("; ".join(["there is no such run", *problems]))
        listed = in_order(listed, args.sort, reverse=args.reverse)
        rows = [row for row, _ in listed]
        notes = [f"{row['run']}: {row['reason']}" for row in rows if row["reason"]]
        print("\n\n".join([runs_table(rows, args.show), *notes, *problems]))
        if args.csv is not None:
            table = csv_lines([rows[0], *(row.values() for row in rows)])
            write_atomically(args.csv, as_utf8(table))
        if args.json is not None:
            write_json(args.json, rows)
        if args.picture is not None:
            names = [*SETTINGS, "num_epoch", *args.show]
            draw_runs([run for _, run in listed], names, args.picture)
        written = [str(path) for path in (args.csv, args.json, args.picture) if path is not None]
        if written:
            print(f"written: {', '.join(written)}")
    return rows


def read_all(folders: Sequence[Path]) -> tuple[list[RecordedRun], list[str]]:
    """The runs below these folders, each once, and a sentence on each that cannot be read."""
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}: name one with runs")
    found = [each for folder in folders for each in read_runs(folder)]
    runs = {run.folder.resolve(): run for run in found if isinstance(run, RecordedRun)}
    return list(runs.values()), [each for each in found if isinstance(each, str)]


def row_of(run: RecordedRun, show: Sequence[str] = ()) -> Row:
    """A run by column; None for what it has not reached."""
    state, reason = run.state()
    row = {"run": str(run.folder), **{name: run.value(name) for name in (*SETTINGS, *show)}}
    row |= dict.fromkeys((*REACHED, *COSTS))
    row |= {"epochs": len(run.records), "num_epoch": run.asked_epochs}
    if run.records:
        outcome, best = outcome_of(run.records), best_of(run.records) or {}
        row |= {
            "last": outcome.get("test_top1"),
            "best": outcome.get("best_test_top1"),
            "best_epoch": outcome.get("best_epoch"),
            "validation": best.get("validation", {}).get("top1"),
            "seconds": sum(run.series("timing/seconds")),
            "peak_memory_mib": max(run.series("timing/peak_memory_mib")),
        }
    return {**row, "state": state, "reason": reason}


def has(row: Row, run: RecordedRun, name: str, value: str) -> bool:
    """Whether a column or flag of a run, as text, is this value."""
    return str(row[name] if name in row else run.value(name)).lower() == value.lower()


def in_order(
    listed: Sequence[tuple[Row, RecordedRun]], column: str | None, *, reverse: bool
) -> list[tuple[Row, RecordedRun]]:
    """Sorted by a column, what has nothing in it last; as they are, if no column is named."""
    if column is None:
        return list(reversed(listed)) if reverse else list(listed)
    if column not in listed[0][0]:
        columns = ", ".join(listed[0][0])
        raise ValueError(f"--sort {column}: expected one of {columns}, or a flag of --show")
    there = [each for each in listed if each[0][column] is not None]
    numbers = all(isinstance(row[column], int | float) for row, _ in there)
    there.sort(key=lambda each: each[0][column] if numbers else str(each[0][column]))
    return [*(reversed(there) if reverse else there), *(x for x in listed if x[0][column] is None)]


def runs_table(rows: Sequence[Row], show: Sequence[str]) -> str:
    """The rows for a terminal."""
    settings = [*SETTINGS, *show]
    reached = ("epochs", "last", "best (epoch)", "validation", "time", "MiB", "state")
    cells = []
    for row in rows:
        best = "" if row["best"] is None else f"{row['best']:.2f} ({row['best_epoch']})"
        memory = row["peak_memory_mib"]
        cells.append(
            [
                Path(row["run"]).name,
                *("" if row[name] is None else str(row[name]) for name in settings),
                f"{row['epochs']}/{row['num_epoch']}",
                "" if row["last"] is None else f"{row['last']:.2f}",
                best,
                "" if row["validation"] is None else f"{row['validation']:.2f}",
                "" if row["seconds"] is None else clock_time(row["seconds"]),
                "" if memory is None else f"{memory:,.0f}",
                row["state"],
            ]
        )
    return markdown_table(("run", *settings, *reached), cells, left=4)


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


if __name__ == "__main__":
    main()
