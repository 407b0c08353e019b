"""On which machines, and with which versions, the runs of a comparison were made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from benchmark.comparison.summary import Entry


def origins_in_words(entries: Sequence[Entry], machine: dict[str, Any]) -> str | None:
    """Which runs came from where; None if all did from one place, which is this machine."""
    made = [
        (entry["name"], seed, run["environment"])
        for entry in entries
        for seed, run in entry["runs"].items()
    ]
    environments = [environment for _, _, environment in made]
    keys = {key: None for found in environments for key in found}
    differ = [key for key in keys if len({_text(found, key) for found in environments}) > 1]
    here = machine.get("gpu", machine["processor"])
    if not differ and all(found.get("device") == here for found in environments):
        return None
    places: dict[str, dict[str, list[int]]] = {}
    for name, seed, found in made:
        shown = dict.fromkeys(["device", *differ])
        place = ", ".join(f"{key} {_text(found, key)}" for key in shown)
        places.setdefault(place, {}).setdefault(name, []).append(seed)
    names = [entry["name"] for entry in entries]
    lines = [f"- {place}: {_runs(rows, names)}" for place, rows in places.items()]
    return "Where the runs were made, as far as it differs:\n\n" + "\n".join(lines)


def _text(environment: dict[str, Any], key: str) -> str:
    value = environment.get(key)
    return value if isinstance(value, str) else json.dumps(value)


def _runs(rows: dict[str, list[int]], names: Sequence[str]) -> str:
    """Seeds, by row unless they are those of every row."""
    first, *others = rows.values()
    if list(rows) == list(names) and all(seeds == first for seeds in others):
        return f"seeds {', '.join(map(str, first))}"
    return "; ".join(f"{name} {', '.join(map(str, seeds))}" for name, seeds in rows.items())
