"""What a plan asks, written down before its runs: one primary metric, and rows to be compared.

primary = "step 1"                        # a metric of benchmark/comparison/metric.py
contrasts = [["esd", "bptt"], ["esd", "rate"]]  # first minus second; the first one is primary
secondary = ["area", "last"]              # may be left out
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmark.comparison.metric import Metric, metric_named
from experiment.flag.values import network_arguments
from model import build_model

Contrast = tuple[str, str]  # names of two rows: first minus second

ASKED = ("primary", "contrasts", "secondary")  # keys of a plan


class Question(NamedTuple):
    """The first contrast by the primary metric is what counts, the rest is corrected for number."""

    primary: Metric
    contrasts: tuple[Contrast, ...]
    secondary: tuple[Metric, ...]

    def tests(self) -> list[tuple[Metric, Contrast]]:
        """Every metric with every contrast, the primary one first."""
        return list(product((self.primary, *self.secondary), self.contrasts))


def read_question(
    content: dict[str, Any], settings: dict[str, dict[str, Any]], path: Path
) -> Question | None:
    """That of a plan; None if it asks nothing. settings: what the main's flags are, by row.

    Raises: ValueError that names what is wrong and what was expected.
    """
    if not any(key in content for key in ASKED):
        return None
    if "primary" not in content or "contrasts" not in content:
        raise ValueError(f"{path}: primary, contrasts and secondary need primary and contrasts")
    if find_spec("scipy") is None:
        raise ValueError(
            f"{path} has contrasts, which scipy tests, and it is not installed: "
            "pip install scikit-learn, which brings it"
        )
    contrasts = _contrasts(content["contrasts"], settings, path)
    rows = {name: settings[name] for contrast in contrasts for name in contrast}
    names = content.get("secondary", [])
    if not isinstance(names, list):
        raise ValueError(f"{path}: secondary is {names!r}, expected metrics in a list")
    primary, *secondary = (_metric(name, rows, path) for name in (content["primary"], *names))
    if len({primary, *secondary}) <= len(secondary):
        raise ValueError(f"{path}: primary and secondary name a metric twice, expected it once")
    return Question(primary, contrasts, tuple(secondary))


def _contrasts(given: Any, rows: Collection[str], path: Path) -> tuple[Contrast, ...]:
    if not isinstance(given, list) or not given:
        example = '[["esd", "bptt"]]'
        raise ValueError(f"{path}: contrasts is {given!r}, expected pairs of rows: {example}")
    found: list[Contrast] = []
    for pair in given:
        if not _is_pair(pair):
            raise ValueError(f"{path}: the contrast {pair!r} is not one of two different rows")
        for name in pair:
            if name not in rows:
                expected = ", ".join(rows)
                raise ValueError(f"{path}: a contrast names {name!r}, expected a row: {expected}")
        if any(set(pair) == set(other) for other in found):
            raise ValueError(f"{path}: the contrast {pair!r} is there twice, expected it once")
        found.append((pair[0], pair[1]))
    return tuple(found)


def _is_pair(value: Any) -> bool:
    words = isinstance(value, list) and all(isinstance(name, str) for name in value)
    return words and len(value) == len(set(value)) == 2


def _metric(name: Any, rows: dict[str, dict[str, Any]], path: Path) -> Metric:
    """The metric of this name, if all of these rows can have it."""
    try:
        metric = metric_named(name)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for row, arguments in rows.items():
        if metric.kind == "step" and metric.number > arguments["T"]:
            raise ValueError(f"{path}: the metric {name!r} is beyond T {arguments['T']} of {row}")
        if metric.kind == "head" and metric.number > (heads := number_of_heads(arguments)):
            raise ValueError(f"{path}: the metric {name!r} is beyond head {heads}, {row}'s last")
        if metric.kind == "selected" and arguments.get("val_fraction") is None:
            raise ValueError(f"{path}: the metric 'selected' needs val_fraction in the row {row}")
    return metric


def number_of_heads(arguments: dict[str, Any]) -> int:
    """Of the network that a main's flags name: its branches and the spiking network itself."""
    given = network_arguments(argparse.Namespace(**arguments))
    with torch.device("meta"):
        return 1 + len(build_model(**given, num_classes=2, in_channels=1).branches)
