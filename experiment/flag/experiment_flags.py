"""The flags of one experiment: the shared rows with its defaults, and rows of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from experiment.flag import idle as when
from experiment.flag.kinds import Location, OneOf, Switch
from experiment.flag.row import Condition, Flag, Role
from experiment.flag.table import SHARED

CHECK_DATA = Flag("check_data", Switch(), False, Role.CIRCUMSTANCE).means(
    "read every image once, list those that cannot be read, and train nothing"
)
READ_BY_CHECK = (
    *("dataset", "data_path", "cache_path", "reader", "num_workers", "check_data"),
    *("test_fraction", "split_seed"),
)


def cache_flag(what: str) -> Flag:
    """--cache_path: where the files go that are made of those in --data_path (`what`)."""
    return Flag("cache_path", Location(), None, Role.CIRCUMSTANCE, "FOLDER").means(
        f"where {what}, if it cannot be in data_path; default: data_path"
    )


def grouped(tables: Mapping[str, Iterable[Flag]]) -> tuple[Flag, ...]:
    """All rows, each with its heading."""
    return tuple(replace(flag, group=group) for group, rows in tables.items() for flag in rows)


def experiment_flags(
    paper: Mapping[str, Any],
    datasets: Collection[str],
    own: Mapping[str, Iterable[Flag]],
    *,
    silencing: Mapping[Condition, Iterable[str]] | None = None,
) -> tuple[Flag, ...]:
    """All flags of an experiment: the shared ones, and its own by their headings in --help.

    paper: the defaults of rows that have OWN; silencing: its own conditions, with the flags that
    they leave without effect. An experiment on images has CHECK_DATA among its own.
    """
    flags = grouped({**SHARED, **own})
    silencing = dict(silencing or {})
    names = [flag.name for flag in flags]
    if CHECK_DATA.name in names:
        silencing[when.CHECKING] = [name for name in names if name not in READ_BY_CHECK]
    return tuple(
        replace(
            flag,
            kind=OneOf(datasets) if flag.name == "dataset" else flag.kind,
            default=paper.get(flag.name, flag.default),
            idle=(*flag.idle, *(c for c, silent in silencing.items() if flag.name in silent)),
        )
        for flag in flags
    )
