"""The recordings of a data set, wherever they lie: in archives, in folders, or as event arrays.

A group (a class) is looked for, in this order, as

    download/GROUP.zip, GROUP.zip      the published archives, read without unpacking them
    extract/GROUP/, GROUP/             unpacked, one .aedat file per recording
    events_np/GROUP/                   spikingjelly's event arrays, one .npz file per recording
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from experiment.dvs.arrays import checked_events, open_arrays
from experiment.dvs.events import BYTES_PER_EVENT, Events, decode_aedat
from util.entry import is_data

# What reading a damaged archive, or a .npz file, is known to raise (RuntimeError: encrypted or
# compressed in another way), beside the OSError of a disk that fails.
DAMAGE = (
    ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error,
    tokenize.TokenError,
)  # fmt: skip


class Recording(NamedTuple):
    """One sample's events, not read yet. `read` raises one of DAMAGE, or OSError."""

    name: str  # without folder and suffix; names the sample everywhere
    place: str  # the file, for messages
    read: Callable[[], tuple[Events, int]]  # and how many were left out
    most_events: int | None = None  # going by the size of the file, where that says it


def find_group(folder: Path, group: str) -> Path | None:
    """The archive or folder that holds the recordings of `group`, or None.

    Raises: ValueError for event arrays that spikingjelly did not finish.
    """
    for parent in ("download", "."):
        for suffix in (".zip", ".ZIP"):
            archive = folder / parent / f"{group}{suffix}"
            if archive.is_file():
                return archive
    for parent, suffix in (("extract", ".aedat"), (".", ".aedat"), ("events_np", ".npz")):
        place = folder / parent / group
        if files_in(place, suffix):
            refuse_unfinished(folder / parent)
            return place
    return None


def refuse_unfinished(folder: Path) -> None:
    """ValueError if spikingjelly was interrupted while it filled `folder`: it leaves a mark."""
    mark = folder.with_name(f"{folder.name}.building")
    if mark.exists():
        raise ValueError(
            f"spikingjelly was interrupted while it filled {folder}, and files in it may be torn: "
            f"delete that folder and {mark}, then start again"
        )


def files_in(place: Path, *suffixes: str) -> list[Path]:
    """The files of a folder with one of `suffixes`, in any case, by name; none if it is not there.

    What operating systems leave there is no file of ours.
    """
    if not place.is_dir():
        return []
    return sorted(
        path for path in place.iterdir() if path.suffix.lower() in suffixes and is_data(path.name)
    )


def recordings(place: Path) -> Iterator[Recording]:
    """The recordings of a place that `find_group` found, by name; read each before the next.

    Raises: zipfile.BadZipFile for an archive that cannot be opened.
    """
    if place.is_file():
        yield from _in_archive(place)
        return
    for path in files_in(place, ".aedat", ".npz"):
        if path.suffix.lower() == ".aedat":
            most_events = path.stat().st_size // BYTES_PER_EVENT
            yield Recording(path.stem, str(path), partial(_read_aedat, path), most_events)
        else:
            yield Recording(path.stem, str(path), partial(_read_arrays, path))


def _in_archive(path: Path) -> Iterator[Recording]:
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            name = PurePosixPath(member.filename)
            if name.suffix.lower() == ".aedat" and is_data(name):
                read = partial(_read_member, archive, member.filename)
                most_events = member.file_size // BYTES_PER_EVENT
                yield Recording(name.stem, f"{name} in {path}", read, most_events)


def _read_aedat(path: Path) -> tuple[Events, int]:
    return decode_aedat(path.read_bytes())


def _read_member(archive: zipfile.ZipFile, member: str) -> tuple[Events, int]:
    return decode_aedat(archive.read(member))  # zipfile compares the checksum


def _read_arrays(path: Path) -> tuple[Events, int]:
    with open_arrays(path) as arrays:
        return checked_events(arrays), 0
