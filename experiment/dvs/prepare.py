"""From recordings to frames on the disk, once per data set and number of frames T.

The frames of a recording are T parts with the same number of events (the last one takes the
remainder), and of each part the events are counted per polarity and pixel; spikingjelly does it.
They are written where spikingjelly's classes look for them, in frames_number_T_split_by_number.

An interruption at any moment costs one recording: files appear whole or not at all, and the folder
has the suffix .incomplete until the last one is in it.

A recording the size of CIFAR10-DVS's (200,000 events, T = 10) takes 30 ms on one CPU core, and its
frames take 80 kB: about five minutes and 0.8 GB for all 10,000. Nothing is unpacked to the disk.
"""

from __future__ import annotations

import fcntl
import io
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from experiment.dvs.countdown import Countdown
from experiment.dvs.events import Events
from experiment.dvs.extract import extract_events
from experiment.dvs.recordings import (
    DAMAGE,
    Recording,
    find_group,
    recordings,
    refuse_unfinished,
)
from experiment.dvs.simulated import write_recordings
from experiment.dvs.source import SOURCES, Source, frames_folder
from util.atomic_file import write_atomically


def prepare(
    name: str, folder: Path, *, T: int, report: Callable[[str], None] = lambda line: None
) -> None:
    """Make the frames of data set `name` in `folder` (see source_folder), if they are not there.

    `report` is given a line of text now and then. Several processes may call this at the same
    time; one works and the others wait.

    Raises: FileNotFoundError for missing recordings, ValueError for damaged ones, each naming all
    of them; the same for a simulated data set's pictures; OSError, for example if the disk is full.
    """
    source, frames = SOURCES[name], frames_folder(folder, T)
    if is_complete(source, frames):
        return
    if not folder.is_dir() and not source.simulated:
        raise FileNotFoundError(f"there is no folder {folder}: give the one of {name}")
    folder.mkdir(parents=True, exist_ok=True)
    with _alone_in(folder, report):
        if is_complete(source, frames):
            return
        if source.simulated:
            write_recordings(name, folder, report)
        elif source.has_parts:
            extract_events(name, source, folder, report)
        places = _find_all(name, source, folder, frames)
        incomplete = frames.with_name(f"{frames.name}.incomplete")
        if frames.is_dir():  # files were lost
            frames.rename(incomplete)
        _integrate_all(source, places, incomplete, T=T, report=report)
        incomplete.rename(frames)


def is_complete(source: Source, frames: Path) -> bool:
    """Whether the folder has the frames of all samples.

    Raises: ValueError if spikingjelly was interrupted while it made them.
    """
    refuse_unfinished(frames)
    return count_files(source, frames) == source.samples


def count_files(source: Source, frames: Path) -> int:
    """How many samples' frames the folder has."""
    return sum(1 for group in source.groups for _ in (frames / group).glob("*.npz"))


def _find_all(name: str, source: Source, folder: Path, frames: Path) -> dict[str, Path]:
    """Where each group lies, all recordings of all groups being there."""
    places = {group: find_group(folder, group) for group in source.groups}
    missing = [group for group, place in places.items() if place is None]
    if missing:
        raise FileNotFoundError(_missing_sentence(name, source, folder, frames, missing))
    counts, problems = {}, []
    for group, place in places.items():
        try:
            counts[group] = len({recording.name for recording in recordings(place)})
        except (zipfile.BadZipFile, OSError) as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise ValueError(_damage_sentence(source, problems))
    if sum(counts.values()) != source.samples:
        listed = ", ".join(f"{places[group]}: {count}" for group, count in counts.items())
        raise ValueError(
            f"{sum(counts.values()):,} recordings of {name}, expected {source.samples:,}: "
            f"{'delete' if source.simulated else 'complete'} these ({listed})"
        )
    return places


def _missing_sentence(
    name: str, source: Source, folder: Path, frames: Path, missing: list[str]
) -> str:
    from spikingjelly import datasets

    resources = getattr(datasets, source.spikingjelly_class).resource_url_md5()
    links = {Path(file).stem: url for file, url, _ in resources}
    wanted = [f"{group}.zip from {links[group]}" for group in missing if group in links]
    others = [path.name for path in sorted(folder.glob("frames_number_*_split_by_number"))]
    here = f" ({', '.join(others)} cannot replace {frames.name})" if others else ""
    if frames.is_dir():
        here = f" ({frames.name} has {count_files(source, frames):,} of {source.samples:,} samples)"
    return (
        f"{name} in {folder} lacks the recordings of {', '.join(missing)}{here}; put "
        f"{', '.join(wanted) or 'them'} into {folder / 'download'}, or folders of .aedat files "
        f"into {folder / 'extract'}"
    )


def _short_sentence(source: Source, short: list[tuple[int, str]], T: int) -> str:
    """Of recordings (events, place) with fewer events than frames."""
    events, place = min(short)
    return (
        f"{len(short):,} with fewer events than the {T:,} frames, {place} with {events:,}: choose "
        f"--T up to {events}, or {_remedy(source)} if they should have more"
    )


def _remedy(source: Source) -> str:
    return "delete these files" if source.simulated else "fetch these files again"


def _damage_sentence(source: Source, problems: list[str]) -> str:
    advice = f"{_remedy(source)} and start again, the rest is kept"
    return "\n  ".join([f"{len(problems)} damaged; {advice}:", *problems])


def _integrate_all(
    source: Source, places: dict[str, Path], target: Path, *, T: int, report: Callable[[str], None]
) -> None:
    """Write the frames of every recording that has none in `target` yet.

    Raises: ValueError at the end, naming every recording that is damaged, and the shortest of those
    with fewer than T events.
    """
    height, width = sensor_size(source)
    for group in source.groups:
        (target / group).mkdir(parents=True, exist_ok=True)
    left = source.samples - count_files(source, target)
    most = left * T * 2 * height * width / 1e9
    free = shutil.disk_usage(target).free / 1e9
    report(f"{left:,} recordings to integrate, T = {T}; at most {most:.1f} GB, {free:.1f} GB free")
    countdown = Countdown("integrating", left, report)
    damaged, short = [], []
    for recording, path in _pending(places, target):
        try:
            frames = integrate(recording.read(), T, height=height, width=width)
        except TooFewEvents as error:
            short.append((error.found, recording.place))
        except DAMAGE as error:
            damaged.append(f"{recording.place}: {error}")
        else:
            write_frames(path, frames)
        countdown.advance()
    countdown.close()
    problems = [_damage_sentence(source, damaged)] if damaged else []
    problems += [_short_sentence(source, short, T)] if short else []
    if problems:
        raise ValueError("\n".join(problems))


def _pending(places: dict[str, Path], target: Path) -> Iterator[tuple[Recording, Path]]:
    """Each recording without frames in `target`, and where its frames belong."""
    for group, place in places.items():
        for recording in recordings(place):
            path = target / group / f"{recording.name}.npz"
            if not path.exists():
                yield recording, path


def sensor_size(source: Source) -> tuple[int, int]:
    """Height and width in pixels of the sensor that recorded the data set."""
    from spikingjelly import datasets

    return getattr(datasets, source.spikingjelly_class).get_H_W()


class TooFewEvents(ValueError):
    """A recording with fewer events (`found`) than there are to be frames."""

    def __init__(self, found: int, frames: int):
        super().__init__(f"{found} events, fewer than the {frames} frames")
        self.found = found


def integrate(events: Events, T: int, *, height: int, width: int) -> np.ndarray:
    """Event counts (T, 2, height, width) of T parts with the same number of events; OFF, then ON.

    They have the smallest unsigned type that holds them. Raises: TooFewEvents for less than one
    event per frame, ValueError for none or for events outside of the sensor.
    """
    from spikingjelly.datasets import integrate_events_by_fixed_frames_number

    if len(events.t) == 0:
        raise ValueError("no events")
    if len(events.t) < T:
        raise TooFewEvents(len(events.t), T)
    if events.x.max() >= width or events.y.max() >= height:
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


@contextmanager
def _alone_in(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes out until this one is done or dead; wait for another one first."""
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process prepares {folder}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
