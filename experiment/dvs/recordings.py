"""The recordings of a data set, wherever they lie: in archives, in folders, or as event arrays.

A group (a class) is looked for, in this order, as

    download/GROUP.zip, GROUP.zip      the published archives, read without unpacking them
    extract/GROUP/, GROUP/             unpacked, one .aedat file per recording
    events_np/GROUP/                   spikingjelly's event arrays, one .npz file per recording
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from experiment.dvs.events import Events, decode_aedat

# What reading a damaged recording is known to raise; of these, OSError stands for the disk's own.
DAMAGE = (
    ValueError, KeyError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Recording(NamedTuple):
    """One sample's events, not read yet."""

    name: str  # without folder and suffix; names the sample everywhere
    place: str  # the file, for messages
    read: Callable[[], Events]  # raises one of DAMAGE


def find_group(folder: Path, group: str) -> Path | None:
    """The archive or folder that holds the recordings of `group`, or None.

    Raises: ValueError for event arrays that spikingjelly did not finish.
    """
    for archive in (folder / "download" / f"{group}.zip", folder / f"{group}.zip"):
        if archive.is_file():
            return archive
    for parent, suffix in (("extract", "aedat"), (".", "aedat"), ("events_np", "npz")):
        place = folder / parent / group
        if next(place.glob(f"*.{suffix}"), None) is not None:
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


def recordings(place: Path) -> Iterator[Recording]:
    """The recordings of a place that `find_group` found, by name; read each before the next.

    Raises: zipfile.BadZipFile for an archive that cannot be opened.
    """
    if place.is_file():
        yield from _in_archive(place)
        return
    for path in sorted(place.glob("[!.]*")):
        if path.suffix == ".aedat":
            yield Recording(path.stem, str(path), partial(_read_aedat, path))
        elif path.suffix == ".npz":
            yield Recording(path.stem, str(path), partial(_read_arrays, path))


def _in_archive(path: Path) -> Iterator[Recording]:
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.namelist()):
            name = PurePosixPath(member)
            # macOS adds files of the same names, with a dot in front, that hold no events.
            if name.suffix == ".aedat" and not name.name.startswith("."):
                read = partial(_read_member, archive, member)
                yield Recording(name.stem, f"{member} in {path}", read)


def _read_aedat(path: Path) -> Events:
    return decode_aedat(path.read_bytes())


def _read_member(archive: zipfile.ZipFile, member: str) -> Events:
    return decode_aedat(archive.read(member))  # zipfile compares the checksum


def _read_arrays(path: Path) -> Events:
    with np.load(path) as arrays:
        return Events(**{field: arrays[field] for field in Events._fields})
