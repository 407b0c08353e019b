"""Recordings -> frames, in one or several processes.

The frames of a recording are T parts with the same number of events (the last one takes the
remainder), and of each part the events are counted per polarity and pixel; spikingjelly does it.
Of a recording that is frames already, a multiple of T, neighbouring ones are added up.
Files of frames appear whole or not at all.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from experiment.dvs.recording.events import Events, Reading, in_pixels
from experiment.dvs.recording.recordings import DAMAGE, Recording, recordings
from util.file.atomic import write_atomically
from util.process.memory import bytes_of_memory

BYTES_IN_MEMORY = 8  # of a count while events are integrated (float64)
MOST_EVENTS = 2**32 - 1  # of a pixel in a frame


class TooFewEvents(ValueError):
    """A recording with fewer events (`found`) than there are to be frames."""

    def __init__(self, found: int, frames: int):
        super().__init__(f"{found} events, fewer than the {frames} frames")
        self.found = found


class OtherFrames(ValueError):
    """A recording of frames whose number (`found`) is no multiple of those there are to be."""

    def __init__(self, found: int, frames: int):
        super().__init__(f"{found} frames, expected {frames} or a multiple of it")
        self.found = found


class Result(NamedTuple):
    """What became of a recording: at most one of the last four is there."""

    place: str
    left_out: int = 0  # events of no pixel
    too_few: int | None = None  # events, where there are fewer than frames
    frames: int | None = None  # where they are no multiple of T
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
        try:
            reading = recording.read()
            frames = frames_of(reading, self.T, self.sensor_size)
        except TooFewEvents as error:
            return Result(recording.place, too_few=error.found)
        except OtherFrames as error:
            return Result(recording.place, frames=error.found)
        except (*DAMAGE, OSError) as error:
            return Result(recording.place, damage=str(error) or type(error).__name__)
        content = io.BytesIO()
        np.savez_compressed(content, frames=frames)  # as spikingjelly's load_npz_frames reads
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content.getvalue())
        except OSError as error:
            return Result(recording.place, unwritten=str(error))
        return Result(recording.place, reading.left_out)


def refuse_too_large(T: int, sensor_size: tuple[int, int]) -> None:
    """ValueError if the frames of one recording do not fit this machine's memory."""
    height, width = sensor_size
    needed = BYTES_IN_MEMORY * T * 2 * height * width
    memory = bytes_of_memory()
    if needed > memory:
        raise ValueError(
            f"T = {T:,}: the frames of one recording take {needed / 1e9:,.0f} GB of memory, this "
            f"machine has {memory / 1e9:,.0f} GB: choose a smaller --T"
        )


def frames_of(reading: Reading, T: int, sensor_size: tuple[int, int]) -> np.ndarray:
    """Event counts (T, 2, H, W), OFF and ON, of a recording by a sensor of (H, W).

    They have the smallest unsigned type that holds them. Raises: ValueError for the recording of
    another sensor, TooFewEvents, OtherFrames, or what `integrate` raises.
    """
    content, _, sensor = reading
    if sensor not in (None, sensor_size):
        what = "events" if isinstance(content, Events) else "frames"
        raise ValueError(f"{what} of {in_pixels(sensor)}, expected {in_pixels(sensor_size)}")
    if isinstance(content, Events):
        height, width = sensor_size
        counts = integrate(content, T, height=height, width=width)
    elif len(content) % T:
        raise OtherFrames(len(content), T)
    else:
        counts = content.reshape(T, -1, *content.shape[1:]).sum(1, dtype=np.float64)
    most = int(counts.max())
    if most > MOST_EVENTS:
        raise ValueError(f"{most:.1e} events of a pixel in a frame, expected at most 4e+09")
    return counts.astype(np.min_scalar_type(most))


def integrate(events: Events, T: int, *, height: int, width: int) -> np.ndarray:
    """Event counts (T, 2, height, width) of T parts with the same number of events; OFF, then ON.

    The parts are in the order of the recording. Raises: TooFewEvents for less than one event per
    frame, ValueError for none or for events outside of the sensor.
    """
    from spikingjelly.datasets import integrate_events_by_fixed_frames_number

    if len(events.t) == 0:
        raise ValueError("no events")
    if len(events.t) < T:
        raise TooFewEvents(len(events.t), T)
    for places, side in ((events.x, width), (events.y, height)):
        if places.min() < 0 or places.max() >= side:
            raise ValueError(f"events outside of the sensor's {in_pixels((height, width))}")
    return integrate_events_by_fixed_frames_number(
        events._asdict(), split_by="number", frames_num=T, H=height, W=width
    )
