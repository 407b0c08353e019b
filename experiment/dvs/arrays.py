"""Event arrays t, x, y and p, as spikingjelly keeps them in .npz files, and counts of events."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.npyio import NpzFile

from experiment.dvs.events import Events


def open_arrays(path: str | Path) -> NpzFile:
    """The arrays of a .npz file, by name; a context manager.

    Raises: ValueError, EOFError or zipfile.BadZipFile for another file, OSError.
    """
    content = np.load(path)
    if not isinstance(content, NpzFile):
        raise ValueError("a single array, expected a .npz file of arrays with names")
    return content


def checked_events(arrays: NpzFile | dict[str, np.ndarray]) -> Events:
    """The events of arrays by name, as far as they can be known without the sensor.

    Raises: ValueError for arrays that hold none.
    """
    missing = [name for name in Events._fields if name not in arrays]
    if missing:
        raise ValueError(f"no array {', '.join(missing)} in it, expected t, x, y and p")
    events = Events(*(arrays[name] for name in Events._fields))
    shapes = [array.shape for array in events]
    if events.t.ndim != 1 or len(set(shapes)) > 1:
        raise ValueError(f"arrays t, x, y, p of shapes {shapes}: expected one value per event each")
    for name in "xyp" if len(events.t) else "":
        try:
            refuse_all_but_whole(getattr(events, name))
        except ValueError as error:
            raise ValueError(f"array {name}: {error}") from error
    if len(events.t) and events.p.max() > 1:
        raise ValueError(f"array p: values up to {events.p.max()}, expected 0 (OFF) and 1 (ON)")
    whole = (array.astype(np.int64) for array in (events.x, events.y, events.p))
    return Events(events.t, *whole)


def refuse_all_but_whole(values: np.ndarray) -> None:
    """ValueError unless the values, of which there are some, are whole numbers from 0."""
    if values.dtype.kind in "bu":
        return
    if values.dtype.kind not in "if":
        raise ValueError(f"values of type {values.dtype}, expected numbers")
    low, high = values.min(), values.max()
    if not 0 <= low <= high <= np.finfo(np.float32).max:  # nor if one is NaN
        raise ValueError(f"values from {low} to {high}, expected whole numbers from 0 up")
    if values.dtype.kind == "f" and (values != np.trunc(values)).any():
        raise ValueError("fractions, expected whole numbers")
