"""Recordings -> frames, in one or several processes.

The frames of a recording are T parts with the same number of events (the last one takes the
remainder), and of each part the events are counted per polarity and pixel; spikingjelly does it.
Files of frames appear whole or not at all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from experiment.dvs.events import Events
from experiment.dvs.recordings import DAMAGE, Recording, recordings
from util.atomic_file import write_atomically


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


class Integration(IterableDataset):
    """Writes the frames of each recording that has none in `target`, and gives its Result.

    Several processes of a data loader share the recordings, each with archives of its own.
    `places` are archives or folders of recordings by group, T the number of frames, `sensor_size`
    (H, W).
    """

    def __init__(
        self, places: dict[str, Path], target: Path, *, T: int, sensor_size: tuple[int, int]
    ) -> None:
        self.places, self.target, self.T, self.sensor_size = places, target, T, sensor_size

    def __iter__(self) -> Iterator[Result]:
        worker = get_worker_info()
        share, shares = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, (recording, path) in enumerate(self._all()):
            if number % shares == share and not path.exists():
                yield self._integrate(recording, path)

    def _all(self) -> Iterator[tuple[Recording, Path]]:
        """Each recording once, and where its frames belong."""
        for group, place in self.places.items():
            names = set()
            for recording in recordings(place):
                if recording.name not in names:
                    names.add(recording.name)
                    yield recording, self.target / group / f"{recording.name}.npz"

    def _integrate(self, recording: Recording, path: Path) -> Result:
        height, width = self.sensor_size
        try:
            events, left_out = recording.read()
            frames = integrate(events, self.T, height=height, width=width)
        except TooFewEvents as error:
            return Result(recording.place, too_few=error.found)
        except (*DAMAGE, OSError) as error:
            return Result(recording.place, damage=str(error) or type(error).__name__)
        try:
            write_frames(path, frames)
        except OSError as error:
            return Result(recording.place, unwritten=str(error))
        return Result(recording.place, left_out)


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


def write_frames(path: Path, frames: np.ndarray) -> None:
    """A file that spikingjelly's load_npz_frames reads, whole or not at all."""
    content = io.BytesIO()
    np.savez_compressed(content, frames=frames)
    write_atomically(path, content.getbuffer())
