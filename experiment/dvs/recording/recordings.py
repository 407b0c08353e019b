"""The recordings of a place, and how a file of each format is read.

.aedat      AEDAT 2.0 of a DVS128, AEDAT 3.1; alone or in an archive
.npz        event arrays t, x, y, p, or frames: an array `frames` (S, 2, H, W)
.npy        frames alone
.aedat4     refused with the reason, so that none is passed over in silence
"""

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

from experiment.dvs.recording.aedat import BYTES_PER_EVENT, decode_aedat
from experiment.dvs.recording.events import Events, Reading, checked_events, checked_frames
from util.file.named_folder import folders_below, is_data

READABLE = (".aedat", ".npz", ".npy")
SUFFIXES = (*READABLE, ".aedat4")
ARRAYS = (".npz", ".npy")
WANTED = (
    "expected a recording of an event camera: AEDAT 2.0 or 3.1 (.aedat), or a .npz file with event "
    "arrays t, x, y, p or with an array 'frames', which may be a .npy file, too"
)

# What reading a damaged archive, or a .npz file, is known to raise, beside the OSError of a disk
# that fails. RuntimeError: it is encrypted, or compressed in another way.
DAMAGE_OF_ARCHIVES = (KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
DAMAGE = (ValueError, tokenize.TokenError, *DAMAGE_OF_ARCHIVES)


class Recording(NamedTuple):
    """One sample, not read yet. `read` raises one of DAMAGE, or OSError."""

    name: str  # below its folder, without suffix; names the sample everywhere
    place: str  # the file, for messages
    read: Callable[[], Reading]
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
    for path in files_in(place, *SUFFIXES):
        name = str(path.relative_to(place).with_suffix(""))
        in_arrays = path.suffix.lower() in ARRAYS
        most_events = None if in_arrays else path.stat().st_size // BYTES_PER_EVENT
        yield Recording(name, str(path), partial(read_recording, path), most_events)


def _in_archive(path: Path) -> Iterator[Recording]:
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            name = PurePosixPath(member.filename)
            if name.suffix.lower() == ".aedat" and is_data(name):
                read = partial(_read_member, archive, member.filename)
                most_events = member.file_size // BYTES_PER_EVENT
                yield Recording(name.stem, f"{name} in {path}", read, most_events)


def _read_member(archive: zipfile.ZipFile, name: str) -> Reading:
    return decode_aedat(archive.read(name))  # zipfile compares the checksum


def read_recording(path: Path) -> Reading:
    """What is in a file of one of SUFFIXES. Raises: one of DAMAGE, or OSError."""
    if path.suffix.lower() not in ARRAYS:
        return decode_aedat(path.read_bytes())
    loaded = np.load(path)
    if not isinstance(loaded, NpzFile):
        return _frames(loaded)
    with loaded as arrays:
        if "frames" in arrays:
            return _frames(arrays["frames"])
        if not set(Events._fields) & set(arrays.files):
            raise ValueError(f"arrays {', '.join(arrays.files) or '(none)'}: {WANTED}")
        return Reading(checked_events(arrays))


def _frames(counts: np.ndarray) -> Reading:
    return Reading(checked_frames(counts), sensor=counts.shape[2:])


def files_in(place: Path, *suffixes: str) -> list[Path]:
    """The files with one of `suffixes`, in any case, in a folder and all below it, by name.

    None if it is not there; what operating systems leave there is no file of ours.
    """
    if not place.is_dir():
        return []
    return sorted(
        Path(folder.path, name)
        for folder in folders_below(place)
        for name in folder.files
        if Path(name).suffix.lower() in suffixes
    )


def open_arrays(path: str | Path) -> NpzFile:
    """The arrays of a .npz file, by name; a context manager.

    Raises: ValueError, EOFError or zipfile.BadZipFile for another file, OSError.
    """
    content = np.load(path)
    if not isinstance(content, NpzFile):
        raise ValueError("a single array, expected a .npz file of arrays with names")
    return content
