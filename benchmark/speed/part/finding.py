"""What a part finds: rows of tables and lines of text, kept on the disk from the first one on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.speed.measure import machine
from util.figure import markdown_table
from util.file.record import write_json

Row = dict[str, str | int | float | None]  # a line of a table, by column


class Line(NamedTuple):
    """A sentence; ok: whether it says that something is as it should be."""

    text: str
    ok: bool = True


Finding = Row | Line


def keep(findings: Iterable[Finding], path: Path, *, device: str) -> None:
    """Write a part's findings to `path` as JSON, anew after each; and at the end the machine."""
    record: dict[str, Any] = {"finished": False, "findings": []}
    write_json(path, record)
    for finding in findings:
        record["findings"].append(as_json_types(finding))
        write_json(path, record)
    write_json(path, record | {"finished": True, "machine": machine(device)})


def as_json_types(finding: Finding) -> dict[str, Any]:
    """A finding as JSON types, which have no NaN and no infinity: these become text."""
    if isinstance(finding, Line):
        return finding._asdict()
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in finding.items()
    }


def reason(error: Exception) -> str:
    return " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])


def findings_as_markdown(findings: Sequence[dict[str, Any]]) -> str:
    """Findings as `keep` has written them: a paragraph per line, a table per run of like rows."""
    parts = []
    for columns, group in groupby(findings, key=tuple):
        if columns == Line._fields:
            parts += [line["text"] for line in group]
        else:
            rows = list(group)
            texts = [any(isinstance(row[name], str) for row in rows) for name in columns]
            left = sum(1 for _ in takewhile(bool, texts))  # columns of text stand in front
            cells = [[_cell(row[name]) for name in columns] for row in rows]
            parts.append(markdown_table(columns, cells, left=left))
    return "\n\n".join(parts)


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def all_is_well(findings: Sequence[dict[str, Any]]) -> bool:
    return all(finding.get("ok", True) for finding in findings)
