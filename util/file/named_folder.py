"""Folders that users name: which one is meant, what in it is data, what could be written there.

A problem is one sentence, said before anything is read or computed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, NoReturn

# In lower case: what Windows, and then macOS' archives, Synology's disks and ext file systems leave
# beside data. A dot in front is that of a hidden file: macOS puts "._photo.jpg" beside "photo.jpg".
WINDOWS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
NO_DATA = WINDOWS | {"__macosx", "@eadir", "lost+found"}


def is_data(name: str | PurePath) -> bool:
    """Whether a relative path, as of an archive's member, is no hidden or system file."""
    parts = PurePath(name).parts
    return not any(part.startswith(".") or part.lower() in NO_DATA for part in parts)


class Folder(NamedTuple):
    """A folder's path, the names of its files, and the path by which it was met first.

    Where the two paths differ, a link has led to it once more, and `files` is empty.
    """

    path: str
    files: list[str]
    first: str


def folders_below(root: Path) -> Iterator[Folder]:
    """`root` and every folder below that is data; links are followed, but no folder entered twice.

    Raises: OSError for a folder that cannot be read.
    """
    met: dict[str, str] = {}
    for path, folders, files in os.walk(root, onerror=_raised, followlinks=True):
        first = met.setdefault(os.path.realpath(path), path)
        if path != first:
            folders.clear()
            files.clear()
        folders[:] = sorted(filter(is_data, folders))
        yield Folder(path, sorted(filter(is_data, files)), first)


def _raised(error: OSError) -> NoReturn:
    raise error


def refuse_no_folder(folder: Path, wanted: Sequence[str], *, unpacked: bool = False) -> None:
    """ValueError if the data path is a file or a dead link.

    wanted: names of which a data set's folder has at least one; unpacked: whether those that are
    archives are unpacked by the program.
    """
    if folder.is_symlink() and not folder.exists():
        raise ValueError(f"data path {folder} is a link to {folder.readlink()}, which is not there")
    if folder.is_file():
        advice = f"give the folder that holds {' or '.join(wanted)}"
        if unpacked and folder.name in wanted:
            advice = f"it is unpacked by itself, give its folder {folder.absolute().parent}"
        elif folder.suffix in (".tar", ".tgz", ".gz", ".zip"):
            advice = f"unpack it, and {advice}"
        raise ValueError(f"data path {folder} is a file: {advice}")


def refuse_folder_near(folder: Path, wanted: Sequence[str]) -> None:
    """ValueError if the data path has none of `wanted`, and a folder near by has."""
    if any((folder / name).exists() for name in wanted):
        return
    if (place := place_near(folder, wanted)) is not None:
        raise ValueError(
            f"data path {folder} does not hold {' or '.join(wanted)}, but {place} does: give that"
        )


def place_near(folder: Path, wanted: Sequence[str]) -> Path | None:
    """The folder that has one of `wanted` where `folder` is in it, or is one level too high."""
    path = folder.absolute()
    above = [
        place
        for place in path.parents[:2]
        for name in wanted
        if (place / name).exists() and path.is_relative_to(place / Path(name).parts[0])
    ]
    below = [
        place
        for place in sorted(folder.glob("*/"))
        if is_data(place.name) and any((place / name).exists() for name in wanted)
    ]
    return next(iter([*above, *below]), None)


def refuse_unusable(folder: Path, flag: str) -> None:
    """ValueError, with the flag that named the folder, if nothing could be written there."""
    if (problem := folder_problem(folder)) is not None:
        raise ValueError(f"--{flag} {folder}: {problem}; name another folder")


def folder_problem(folder: Path) -> str | None:
    """Why nothing could be written into a folder, there or yet to be made; None if it could be.

    Nothing is made: the nearest folder that is there takes a file without a name.
    """
    nearest = folder.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.exists():
        return f"{nearest} is a link to {nearest.readlink()}, which does not exist"
    if not nearest.is_dir():
        return f"{nearest} is a file"
    try:
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return f"nothing can be written in {nearest} ({error.strerror})"
