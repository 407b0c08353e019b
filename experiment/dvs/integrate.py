"""Recordings -> frames, in one or several processes.

The frames of a recording are T parts with the same number of events (the last one takes the
remainder), and of each part the events are counted per polarity and pixel; spikingjelly does it.
Files of frames appear whole or not at all.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from experiment.dvs.recording.aedat import Events
from experiment.dvs.recording.recordings import DAMAGE, Recording, recordings
from util.file.atomic import write_atomically

BYTES_IN_MEMORY = 8  # of a count while events are integrated (float64)


class TooFewEvents(ValueError):
    """A recording with fewer events (`found`) than there are to be frames."""

    def __init__(self, found: int, frames: int):
        super().__init__(f"{found} events, fewer than the {frames} frames")
        self.found = found


class Result(NamedTuple):
    """What became of a recording: at most one of `too_few`, `damage` and `unwritten` is there."""

    place: str
    left_out: int = 0  # events of no pixel
    too_few: int | None = None  # events, where there are fewer than frames
    damage: str | None = None
    unwritten: str | None = None  # why the frames could not be written


@dataclass(frozen=True, eq=False)
class Integration(IterableDataset):
    """Writes the frames of each recording that has none in `target`, and gives its Result.

    Several processes of a data loader share the recordings, each with archives of its own.
    `places` are archives or folders of recordings by group, T the number of frames, `sensor_size`
    (H, W).
    """

    places: dict[str, Path]
    target: Path
    T: int
    sensor_size: tuple[int, int]

    def __iter__(self) -> Iterator[Result]:
        worker = get_worker_info()
        share, shares = (worker.id, worker.num_workers) if worker else (0, 1)
        every = (
            (recording, self.target / group / f"{recording.name}.npz")
            for group, place in self.places.items()
            for recording in recordings(place)
        )
        for recording, path in islice(every, share, None, shares):
            if not path.exists():
                yield self._integrate(recording, path)

    def _integrate(self, recording: Recording, path: Path) -> Result:
        height, width = self.sensor_size
        try:
            events, left_out = recording.read()
            frames = integrate(events, self.T, height=height, width=width)
        except TooFewEvents as error:
            return Result(recording.place, too_few=error.found)
        except (*DAMAGE, OSError) as error:
            return Result(recording.place, damage=str(error) or type(error).__name__)
        content = io.BytesIO()
        np.savez_compressed(content, frames=frames)  # as spikingjelly's load_npz_frames reads
        try:
            write_atomically(path, content.getbuffer())
        except OSError as error:
            return Result(recording.place, unwritten=str(error))
        return Result(recording.place, left_out)


def refuse_too_large(T: int, sensor_size: tuple[int, int]) -> None:
    """ValueError if the frames of one recording do not fit this machine's memory."""
    height, width = sensor_size
    needed = BYTES_IN_MEMORY * T * 2 * height * width
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ValueError(
            f"T = {T:,}: the frames of one recording take {needed / 1e9:,.0f} GB of memory, this "
            f"machine has {memory / 1e9:,.0f} GB: choose a smaller --T"
        )


def integrate(events: Events, T: int, *, height: int, width: int) -> np.ndarray:
    """Event counts (T, 2, height, width) of T parts with the same number of events; OFF, then ON.

    The parts are in the order of the recording. They have the smallest unsigned type that holds
    them. Raises: TooFewEvents for less than one event per frame, ValueError for none or for events
    outside of the sensor.
    """
    from spikingjelly.datasets import integrate_events_by_fixed_frames_number

    if len(events.t) == 0:
        raise ValueError("no events")
    if len(events.t) < T:
        raise TooFewEvents(len(events.t), T)
    for places, side in ((events.x, width), (events.y, height)):
        if places.min() < 0 or places.max() >= side:
            raise ValueError(f"events outside of the sensor's {height} x {width} pixels")
    counts = integrate_events_by_fixed_frames_number(
        events._asdict(), split_by="number", frames_num=T, H=height, W=width
    )
    return counts.astype(np.min_scalar_type(int(counts.max())))
