"""The size of the sensor of one's own recordings: what files say, or as far as events reach."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from torch.utils.data import Dataset

from experiment.dvs.recording.events import LARGEST_SIDE, in_pixels
from experiment.dvs.recording.groups import damage_sentence
from experiment.dvs.recording.origin import made_from
from experiment.dvs.recording.recordings import DAMAGE, read_recording
from experiment.dvs.recording.source import Store, frames_folder
from util.process.loader import read_once
from util.process.progress import Countdown


class Extent(NamedTuple):
    """Pixels of the sensor if the file says its size, and else as far as its events reach."""

    is_said: bool
    height: int
    width: int


def with_sensor(
    store: Store,
    T: int,
    asked: str | None = None,
    *,
    num_workers: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> Store:
    """The store with its sensor's (H, W): as asked for ("WIDTHxHEIGHT"), or as the files say.

    Frames of a sensor that is asked for have a cache of their own, so that others never show which
    one was asked for before, and stay as they are.
    Raises: ValueError for damaged files or several sensors, each by name.
    """
    if asked is not None:
        width, height = map(int, asked.split("x"))
        cache = store.cache.with_name(f"{store.cache.name}-{width}x{height}")
        return Store(store.source._replace(sensor=(height, width)), store.folder, cache)
    known = made_from(frames_folder(store.cache, T))
    if known is not None and known["files"] == store.source.files:
        sensor = tuple(known["sensor"])
    else:
        sensor = _measured(store, num_workers, report)
    return store._replace(source=store.source._replace(sensor=sensor))


class Extents(Dataset):
    """The extent of each file, or in words what is wrong with it."""

    def __init__(self, paths: list[Path]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Extent | str:
        try:
            reading = read_recording(self.paths[index])
        except (*DAMAGE, OSError) as error:
            return f"{self.paths[index]}: {str(error) or type(error).__name__}"
        if max(reading.extent) > LARGEST_SIDE:
            return f"{self.paths[index]}: {in_pixels(reading.extent)}, more than any sensor has"
        return Extent(reading.sensor is not None, *reading.extent)


def _measured(store: Store, num_workers: int, report: Callable[[str], None]) -> tuple[int, int]:
    """The sensor that the files name, or else the part of one that events come from."""
    names = sorted(store.source.files)
    found = _read_all([store.folder / name for name in names], num_workers, report)
    damaged = [result for result in found if isinstance(result, str)]
    if damaged:
        raise ValueError(damage_sentence(store.source, damaged))
    said: dict[tuple[int, int], str] = {}
    for name, (is_said, *size) in zip(names, found, strict=True):
        if is_said:
            said.setdefault(tuple(size), name)
    if len(said) > 1:
        several = ", ".join(f"{name} {in_pixels(sensor)}" for sensor, name in said.items())
        raise ValueError(
            f"{store.folder} has recordings of several sensors ({several}): keep those of one"
        )
    if said:
        return next(iter(said))
    height, width = max(one.height for one in found), max(one.width for one in found)
    report(
        f"sensor: {in_pixels((height, width))}, as far as events reach in {len(names):,} "
        "recordings; --sensor WIDTHxHEIGHT gives another"
    )
    return height, width


def _read_all(
    paths: list[Path], num_workers: int, report: Callable[[str], None]
) -> list[Extent | str]:
    with (
        closing(Countdown("looking at the recordings", len(paths), report)) as countdown,
        closing(read_once(Extents(paths), num_workers=min(num_workers, len(paths)))) as results,
    ):
        found = []
        for result in results:
            found.append(result)
            countdown.advance()
    return found
