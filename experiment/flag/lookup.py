"""Which experiment has a data set, and the flags of that experiment."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any

from experiment.flag.experiment_flags import grouped
from experiment.flag.row import OWN, Flag, Role
from experiment.flag.table import SHARED

EXPERIMENTS = ("cifar", "imagenet", "dvs")


def flags_of_experiment(name: str) -> tuple[Flag, ...]:
    """All flags of an experiment, by the name of its folder."""
    return import_module(f"experiment.{name}.config.config").FLAGS


def datasets_of(name: str) -> Collection[str]:
    (row,) = (flag for flag in flags_of_experiment(name) if flag.name == "dataset")
    return row.kind.names


def all_datasets() -> list[str]:
    """Those of all experiments."""
    return [dataset for name in EXPERIMENTS for dataset in datasets_of(name)]


def all_flags() -> set[str]:
    """The names of the flags that any experiment has."""
    return {flag.name for name in EXPERIMENTS for flag in flags_of_experiment(name)}


def experiment_with(dataset: str | None) -> str | None:
    """The name of the experiment that has this data set, if any has."""
    return next((name for name in EXPERIMENTS if dataset in datasets_of(name)), None)


def flags_of(dataset: str | None) -> tuple[Flag, ...]:
    """All flags of the experiment that has this data set; the shared ones if none has."""
    name = experiment_with(dataset)
    if name is None:
        return grouped(SHARED)
    return flags_of_experiment(name)


def defaults_of(dataset: str | None) -> dict[str, Any]:
    """The defaults of its flags, by name; without OWN where no experiment has it."""
    return {flag.name: flag.default for flag in flags_of(dataset) if flag.default is not OWN}


def names_of(dataset: str | None, *roles: Role) -> list[str]:
    """The names of those of its flags that have one of these roles."""
    return [flag.name for flag in flags_of(dataset) if flag.role in roles]
