"""A plan: which runs are compared, from a TOML file.

experiment = "cifar"            # the main that trains: experiment/cifar/main.py
seeds = [60, 61, 62]            # every row runs once with each

[flags]                         # of every run, by the names of the main's flags
dataset = "Digits"
num_epoch = 10

[[row]]                         # one line of the table: a name, and flags of its own
name = "esd"
method = "esd"

It may say what it asks (benchmark/comparison/question.py): primary, contrasts, secondary.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.comparison.question import ASKED, Question, read_question
from experiment.flag.parser import FlagParser
from experiment.flag.values import recipe_of, request_of
from experiment.train.preflight import refuse_contradictions
from util.file.kind import kind_of_file

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ("cifar", "dvs")
OWN_FLAGS = ("seed", "log_path", "resume", "evaluate")  # the comparison sets them itself
KEYS = {"experiment", "seeds", "flags", "row", *ASKED}


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        values: flags and values as the plan has them.
        arguments: every flag with its value, as the main understands it.
    """

    name: str
    values: dict[str, Any]
    arguments: dict[str, Any]

    @property
    def flags(self) -> tuple[str, ...]:
        return words_of(self.values)


class ComparisonPlan(NamedTuple):
    """What is compared: rows times seeds. main: the script that trains; question: None if none."""

    main: Path
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    question: Question | None


def read_plan(path: Path) -> ComparisonPlan:
    """The plan in a file; every row's flags have been understood by the main's own parser.

    Raises: FileNotFoundError; ValueError that names what is wrong and what was expected.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no plan {path}: name a TOML file")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        kind = kind_of_file(path) or "no text"
        raise ValueError(f"{path} is {kind}: expected a TOML file with the runs") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error
    unknown = sorted(set(content) - KEYS)
    if unknown:
        raise ValueError(f"{path}: unknown key {unknown[0]!r}, expected {', '.join(sorted(KEYS))}")
    experiment = content.get("experiment", "cifar")
    if experiment not in EXPERIMENTS:
        raise ValueError(
            f"{path}: experiment is {experiment!r}, expected one of {', '.join(EXPERIMENTS)}"
        )
    shared, rows = content.get("flags", {}), content.get("row", [])
    if not isinstance(shared, dict) or not _is_list_of(rows, dict) or not rows:
        raise ValueError(f"{path}: expected a table [flags] and at least one [[row]]")
    seeds = content.get("seeds", [])
    if not _is_list_of(seeds, int) or not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path}: seeds is {seeds!r}, expected different whole numbers in a list")
    parser = import_module(f"experiment.{experiment}.config.config").get_parser()
    main = ROOT / "experiment" / experiment / "main.py"
    found = tuple(_rows(rows, shared, parser, path))
    question = read_question(content, {row.name: row.arguments for row in found}, path)
    return ComparisonPlan(main, tuple(seeds), found, question)


def _rows(
    rows: list[dict[str, Any]], shared: dict[str, Any], parser: FlagParser, path: Path
) -> list[Row]:
    found: dict[str, Row] = {}
    known = set(parser.flags()) - {"help", *OWN_FLAGS}
    for number, own in enumerate(rows, 1):
        name = own.get("name")
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name) or name in found:
            raise ValueError(
                f"{path}: row {number} has the name {name!r}, expected one of its own made of "
                "letters, digits and . _ + -"
            )
        values = shared | {key: value for key, value in own.items() if key != "name"}
        for flag in [flag for flag in values if flag not in known]:
            why = "is set by the comparison" if flag in OWN_FLAGS else "is no flag of the main"
            expected = ", ".join(sorted(known))
            raise ValueError(f"{path}, row {name}: {flag!r} {why}; flags are {expected}")
        try:
            arguments = parser.parse_args(words_of(values))
        except SystemExit:
            print(f"(the flags of row {name} in {path})", file=sys.stderr)
            raise
        try:
            refuse_contradictions(request_of(arguments), recipe_of(arguments))
        except ValueError as error:
            raise ValueError(f"{path}, row {name}: {error}") from error
        found[name] = Row(name, values, vars(arguments))
    return list(found.values())


def words_of(values: dict[str, Any]) -> tuple[str, ...]:
    """Flags as a command line has them; true and false become --flag and --no-flag."""
    flags: list[str] = []
    for name, value in values.items():
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no-{name}")
        else:
            flags += [f"--{name}", str(value)]
    return tuple(flags)


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)
