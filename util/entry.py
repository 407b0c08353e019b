"""Entries of folders and archives: data, or what operating systems leave beside, no sample."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple, NoReturn

# In lower case. Names with a dot in front are hidden files; macOS puts "._photo.jpg" beside
# "photo.jpg". The others are those of macOS' archives, Synology's disks and ext file systems.
WINDOWS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
OTHERS = {"__macosx", "@eadir", "lost+found"}
NO_DATA = WINDOWS | OTHERS


def is_data(name: str | PurePath) -> bool:
    """Whether no part of a relative path, as of an archive's member, is such a name."""
    parts = PurePath(name).parts
    return not any(part.startswith(".") or part.lower() in NO_DATA for part in parts)


class Folder(NamedTuple):
    """A folder's path, the names of its files, and the path by which it was met first."""

    path: str
    files: list[str]
    first: str

    @property
    def is_met_again(self) -> bool:
        """Whether a link has led to it once more; `files` is empty then."""
        return self.path != self.first


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
