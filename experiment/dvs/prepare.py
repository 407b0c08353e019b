"""From recordings to frames on the disk, once per data set and number of frames T.

They are written in the layout of spikingjelly's classes, in frames_number_T_split_by_number, beside
the recordings or in another folder, the cache.

An interruption at any moment costs one recording per process: files appear whole or not at all, and
the folder has the suffix .incomplete until the last one is in it. What is refused before leaves
nothing behind.

A recording the size of CIFAR10-DVS's (200,000 events, T = 10) takes 30 ms on one CPU core, and its
frames take 80 kB: about five minutes and 0.8 GB for all 10,000. Nothing is unpacked to the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from experiment.countdown import Countdown
from experiment.dvs.alone import alone_in
from experiment.dvs.extract import EVENTS, extract_events, find_archives
from experiment.dvs.groups import count_files, damage_sentence, find_groups, remedy
from experiment.dvs.integrate import Integration, Result
from experiment.dvs.limit import refuse_too_large
from experiment.dvs.recordings import refuse_unfinished
from experiment.dvs.simulated import write_recordings
from experiment.dvs.source import SOURCES, Source, frames_folder, sensor_size
from util.new_folder import folder_problem
from util.read_once import read_once

Report = Callable[[str], None]


def prepare(
    name: str,
    folder: Path,
    *,
    T: int,
    cache: Path | None = None,
    num_workers: int = 0,
    report: Report = lambda line: None,
) -> Path:
    """Make the frames of data set `name` in `cache`, if they are neither there nor in `folder`.

    Returns the folder of the frames. `folder` (see source_folder) has the recordings, and is the
    default of `cache`. `report` is given a line of text now and then. Several processes may call
    this at the same time; one works, in `num_workers` processes (0: itself), and the others wait.

    Raises: FileNotFoundError for missing recordings, ValueError for damaged ones, each naming all
    of them; the same for a simulated data set's pictures; ValueError for a T that is absurd, or a
    cache that cannot be written to; OSError, for example if the disk is full.
    """
    source, cache = SOURCES[name], cache or folder
    for place in (folder, cache):
        if is_complete(source, frames_folder(place, T)):
            return frames_folder(place, T)
    frames = frames_folder(cache, T)
    _refuse_at_once(name, folder, frames, T)
    with alone_in(cache, report):
        if not is_complete(source, frames):
            _make(name, folder, frames, T=T, num_workers=num_workers, report=report)
    return frames


def is_complete(source: Source, frames: Path) -> bool:
    """Whether the folder has the frames of all samples.

    Raises: ValueError if spikingjelly was interrupted while it made them, or for too many.
    """
    refuse_unfinished(frames)
    found = count_files(source, frames)
    if found > source.samples:
        raise ValueError(
            f"{frames} has the frames of {found:,} samples, expected {source.samples:,}: delete "
            "those that were put there, or the folder, which is then made anew"
        )
    return found == source.samples


def _refuse_at_once(name: str, folder: Path, frames: Path, T: int) -> None:
    """Refuse what can be known before anything is written or a recording is read."""
    source, cache = SOURCES[name], frames.parent
    for path in (folder.parent, folder):
        if path.exists() and not path.is_dir():
            raise ValueError(f"data path {path} is a file: expected the folder of {name}")
    if not folder.is_dir() and not source.simulated:
        raise FileNotFoundError(f"there is no folder {folder}: give the one of {name}")
    refuse_too_large(T, sensor_size(source))
    made = [f"{frames.name} (at most {_gigabytes(source, T):.1f} GB)"]
    if source.simulated:
        made.insert(0, "simulated recordings")
    elif not source.has_parts:
        find_groups(name, folder, frames, T=T)
    elif find_archives(name, source, folder, cache):
        made.insert(0, EVENTS)
    problem = folder_problem(cache)
    if problem is not None:
        raise ValueError(
            f"{' and '.join(made)} would be made in {cache}, but {problem}: name another folder "
            "with --cache_path"
        )


def _gigabytes(source: Source, T: int, samples: int | None = None) -> float:
    """What the frames of so many samples (default: all) need on the disk at most."""
    height, width = sensor_size(source)
    return (source.samples if samples is None else samples) * T * 2 * height * width / 1e9


def _make(
    name: str, folder: Path, frames: Path, *, T: int, num_workers: int, report: Report
) -> None:
    """Make the frames, going on with those of an interrupted call."""
    source, cache = SOURCES[name], frames.parent
    if source.simulated:
        write_recordings(name, folder, report, cache=cache)
    elif source.has_parts:
        extract_events(name, source, folder, report, cache=cache)
    places = find_groups(name, folder, frames, T=T)
    incomplete = frames.with_name(f"{frames.name}.incomplete")
    if frames.is_dir():  # files were lost
        frames.rename(incomplete)
    for group in source.groups:
        (incomplete / group).mkdir(parents=True, exist_ok=True)
    left = source.samples - count_files(source, incomplete)
    free = shutil.disk_usage(cache).free / 1e9
    report(
        f"{left:,} recordings to integrate, T = {T}; at most {_gigabytes(source, T, left):.1f} GB, "
        f"{free:.1f} GB free"
    )
    task = Integration(places, incomplete, T=T, sensor_size=sensor_size(source))
    results = _integrate(task, left, num_workers=num_workers, report=report)
    _refuse_bad(source, results, T)
    incomplete.rename(frames)


def _integrate(task: Integration, left: int, *, num_workers: int, report: Report) -> list[Result]:
    """Make frames of the recordings `left`; returns what became of them.

    Raises: OSError if frames cannot be written.
    """
    results = []
    with (
        closing(Countdown("integrating", left, report)) as countdown,
        closing(read_once(task, num_workers=min(num_workers, left))) as found,
    ):
        for result in found:
            if result.unwritten is not None:
                raise OSError(result.unwritten)
            results.append(result)
            countdown.advance()
    left_out = [result.left_out for result in results if result.left_out]
    if left_out:
        total, where = f"{sum(left_out):,}", f"{len(left_out):,} recordings"
        report(f"{total} special events, of no pixel, left out of {where}")
    return results


def _refuse_bad(source: Source, results: list[Result], T: int) -> None:
    """ValueError that names every damaged recording, and the shortest of those too short."""
    damaged = [f"{one.place}: {one.damage}" for one in results if one.damage is not None]
    problems = [damage_sentence(source, damaged)] if damaged else []
    short = [(one.too_few, one.place) for one in results if one.too_few is not None]
    if short:
        events, place = min(short)
        problems.append(
            f"{len(short):,} with fewer events than the {T:,} frames, {place} with {events:,}: "
            f"choose --T up to {events}, or {remedy(source)} if they should have more"
        )
    if problems:
        raise ValueError("\n".join(problems))
