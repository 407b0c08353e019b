"""What a recording holds: events, or frames that somebody has made of them; and what is none.

Shapes: N events, S frames, H x W pixels of the sensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

LARGEST_SIDE = 2**15  # pixels of a sensor: AEDAT 3.1 counts up to here


class Events(NamedTuple):
    """A recording of N events; all fields are arrays (N,), in the order of the recording."""

    t: np.ndarray  # microseconds
    x: np.ndarray  # column, 0 at the left
    y: np.ndarray  # row, 0 at the top
    p: np.ndarray  # 1 for ON (brighter), 0 for OFF (darker)


class Reading(NamedTuple):
    """What was read from a file; sensor: its (H, W), None where the file does not say it."""

    content: Events | np.ndarray  # or frames (S, 2, H, W): counts of OFF and ON events
    left_out: int = 0  # events of no pixel
    sensor: tuple[int, int] | None = None

    @property
    def extent(self) -> tuple[int, int]:
        """The sensor's size, or at least that of the part that sent events."""
        if self.sensor is not None:
            return self.sensor
        return tuple(int(places.max(initial=0)) + 1 for places in (self.content.y, self.content.x))


def in_pixels(sensor: tuple[int, int]) -> str:
    """A sensor's (H, W) in words, as --sensor takes it: width first."""
    height, width = sensor
    return f"{width}x{height} pixels"


def checked_events(arrays: Mapping[str, np.ndarray]) -> Events:
    """The events of spikingjelly's arrays t, x, y, p, as far as they can be known without a sensor.

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


def checked_frames(counts: np.ndarray) -> np.ndarray:
    """Frames (S, 2, H, W) of whole counts as they are. Raises: ValueError for anything else."""
    if counts.ndim != 4 or counts.shape[1] != 2 or counts.size == 0:
        raise ValueError(f"frames of shape {counts.shape}, expected (T, 2, height, width)")
    refuse_all_but_whole(counts)
    return counts


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
