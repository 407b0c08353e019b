"""The recordings of a place: of an archive, of a folder of .aedat files, or of event arrays."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile

from experiment.dvs.recording.aedat import BYTES_PER_EVENT, Events, decode_aedat
from util.file.named_folder import is_data

# What reading a damaged archive, or a .npz file, is known to raise, beside the OSError of a disk
# that fails. RuntimeError: it is encrypted, or compressed in another way.
DAMAGE_OF_ARCHIVES = (KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
DAMAGE = (ValueError, tokenize.TokenError, *DAMAGE_OF_ARCHIVES)


class Recording(NamedTuple):
    """One sample's events, not read yet. `read` raises one of DAMAGE, or OSError."""

    name: str  # without folder and suffix; names the sample everywhere
    place: str  # the file, for messages
    read: Callable[[], tuple[Events, int]]  # and how many were left out
    most_events: int | None = None  # going by the size of the file, where that says it


def recordings(place: Path) -> Iterator[Recording]:
    """The recordings of an archive or folder, by name, each once; read one before the next.

    Raises: zipfile.BadZipFile for an archive that cannot be opened.
    """
    met = set()
    for recording in _in_archive(place) if place.is_file() else _in_folder(place):
        if recording.name not in met:
            met.add(recording.name)
            yield recording


def _in_folder(place: Path) -> Iterator[Recording]:
    for path in files_in(place, ".aedat", ".npz"):
        if path.suffix.lower() == ".aedat":
            yield _in_aedat(path.stem, str(path), path.stat().st_size, path.read_bytes)
        else:
            yield Recording(path.stem, str(path), partial(_read_arrays, path))


def _in_archive(path: Path) -> Iterator[Recording]:
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            name = PurePosixPath(member.filename)
            if name.suffix.lower() == ".aedat" and is_data(name):
                # zipfile compares the checksum
                read_bytes = partial(archive.read, member.filename)
                yield _in_aedat(name.stem, f"{name} in {path}", member.file_size, read_bytes)


def _in_aedat(name: str, place: str, size: int, read_bytes: Callable[[], bytes]) -> Recording:
    return Recording(name, place, lambda: decode_aedat(read_bytes()), size // BYTES_PER_EVENT)


def _read_arrays(path: Path) -> tuple[Events, int]:
    with open_arrays(path) as arrays:
        return checked_events(arrays), 0


def files_in(place: Path, *suffixes: str) -> list[Path]:
    """The files of a folder with one of `suffixes`, in any case, by name; none if it is not there.

    What operating systems leave there is no file of ours.
    """
    if not place.is_dir():
        return []
    return sorted(
        path for path in place.iterdir() if path.suffix.lower() in suffixes and is_data(path.name)
    )


def open_arrays(path: str | Path) -> NpzFile:
    """The arrays of a .npz file, by name; a context manager.

    Raises: ValueError, EOFError or zipfile.BadZipFile for another file, OSError.
    """
    content = np.load(path)
    if not isinstance(content, NpzFile):
        raise ValueError("a single array, expected a .npz file of arrays with names")
    return content


def checked_events(arrays: NpzFile | dict[str, np.ndarray]) -> Events:
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
