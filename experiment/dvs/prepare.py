"""From recordings to frames on the disk, once per data set and number of frames T.

They are written in the layout of spikingjelly's classes, in frames_number_T_split_by_number, beside
the recordings or in another folder, the cache.

An interruption at any moment costs one recording per process: files appear whole or not at all, and
the folder has the suffix .incomplete until the last one is in it. What is refused before leaves
nothing behind. Archives of .aedat files are not unpacked to the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from experiment.dvs.integrate import Integration, Result, refuse_too_large
from experiment.dvs.recording.archive import EVENTS, extract_events, find_published
from experiment.dvs.recording.groups import (
    count_files,
    damage_sentence,
    find_groups,
    refuse_unfinished,
    remedy,
)
from experiment.dvs.recording.origin import drop_outdated, is_current
from experiment.dvs.recording.simulation import write_recordings
from experiment.dvs.recording.source import DataSource, Store, frames_folder, spikingjelly_datasets
from util.file.alone import alone_in
from util.file.named_folder import folder_problem, refuse_no_folder
from util.process.loader import read_once
from util.process.progress import Countdown

Report = Callable[[str], None]


def prepare(
    store: Store, *, T: int, num_workers: int = 0, report: Report = lambda line: None
) -> Path:
    """Make the frames of a data set in its cache, if they are neither there nor in its folder.

    Returns the folder of the frames. `report` is given a line of text now and then. Several
    processes may call this at the same time; one works, in `num_workers` processes (0: itself),
    and the others wait.

    Raises: FileNotFoundError for missing recordings, ValueError for damaged ones, each naming all
    of them; ValueError for a T that is absurd, a cache that cannot be written to, or a package that
    cannot be loaded; OSError, for example if the disk is full.
    """
    source, folder, cache = store
    for place in (folder, cache):
        if is_complete(source, frames_folder(place, T)):
            return frames_folder(place, T)
    _refuse_at_once(store, T)
    with alone_in(cache, report):
        if not is_complete(source, frames_folder(cache, T)):
            _make(store, T, num_workers, report)
    return frames_folder(cache, T)


def is_complete(source: DataSource, frames: Path) -> bool:
    """Whether the folder has the frames of all samples.

    Raises: ValueError if spikingjelly was interrupted while it made them, or for too many.
    """
    refuse_unfinished(frames)
    if source.is_own and not is_current(source, frames):
        return False
    found = count_files(source, frames)
    if found > source.samples:
        raise ValueError(
            f"{frames} has the frames of {found:,} samples, expected {source.samples:,}: delete "
            "those that were put there, or the folder, which is then made anew"
        )
    return found == source.samples


def _refuse_at_once(store: Store, T: int) -> None:
    """Refuse what can be known before anything is written or a recording is read."""
    source, folder, cache = store
    for path in (folder.parent, folder):
        refuse_no_folder(path, list(source.archives) or [source.name], unpacked=True)
    if not folder.is_dir() and not source.simulated:
        raise FileNotFoundError(f"there is no folder {folder}: give the one of {source.name}")
    spikingjelly_datasets()  # which integrates every recording
    refuse_too_large(T, source.sensor_size)
    size = _most_gigabytes(source, T, source.samples)
    made = [f"{frames_folder(cache, T).name} (at most {size:.1f} GB)"]
    if source.simulated:
        made.insert(0, "simulated recordings")
    elif not source.is_extracted:
        find_groups(store, T)
    elif find_published(store):
        made.insert(0, EVENTS)
    problem = folder_problem(cache)
    if problem is not None:
        raise ValueError(
            f"{' and '.join(made)} would be made in {cache}, but {problem}: name another folder "
            "with --cache_path"
        )


def _most_gigabytes(source: DataSource, T: int, samples: int) -> float:
    """What the frames of so many samples need on the disk at most."""
    height, width = source.sensor_size
    return samples * T * 2 * height * width / 1e9


def _make(store: Store, T: int, num_workers: int, report: Report) -> None:
    """Make the frames, going on with those of an interrupted call."""
    source, cache, frames = store.source, store.cache, frames_folder(store.cache, T)
    if source.simulated:
        write_recordings(store, report)
    elif source.is_extracted:
        extract_events(store, report)
    places = find_groups(store, T)
    incomplete = frames.with_name(f"{frames.name}.incomplete")
    if frames.is_dir():  # files were lost, or have changed
        frames.rename(incomplete)
    incomplete.mkdir(exist_ok=True)
    if source.is_own:
        drop_outdated(source, incomplete)
    left = source.samples - count_files(source, incomplete)
    size, free = _most_gigabytes(source, T, left), shutil.disk_usage(cache).free / 1e9
    report(f"{left:,} recordings to integrate, T = {T}; at most {size:.1f} GB, {free:.1f} GB free")
    task = Integration(places, incomplete, T, source.sensor_size)
    _refuse_bad(source, _integrate_all(task, left, num_workers, report), T)
    incomplete.rename(frames)


def _integrate_all(task: Integration, left: int, num_workers: int, report: Report) -> list[Result]:
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


def _refuse_bad(source: DataSource, results: list[Result], T: int) -> None:
    """ValueError that names every damaged recording, and the shortest of those of wrong length."""
    damaged = [f"{one.place}: {one.damage}" for one in results if one.damage is not None]
    problems = [damage_sentence(source, damaged)] if damaged else []
    short = [(one.too_few, one.place) for one in results if one.too_few is not None]
    if short:
        events, place = min(short)
        problems.append(
            f"{len(short):,} with fewer events than the {T:,} frames, {place} with {events:,}: "
            f"choose --T up to {events}, or {remedy(source)} if they should have more"
        )
    odd = [(one.frames, one.place) for one in results if one.frames is not None]
    if odd:
        frames, place = min(odd)
        problems.append(
            f"{len(odd):,} of frames that are no multiple of the {T:,} asked for, {place} has "
            f"{frames:,}: choose a --T that divides the number of frames in every file"
        )
    if problems:
        raise ValueError("\n".join(problems))
