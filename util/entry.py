"""Entries of folders and archives that operating systems leave beside data: never a sample."""

from pathlib import PurePath

# In lower case. Names with a dot in front are hidden files; macOS puts "._photo.jpg" beside
# "photo.jpg". The others are those of macOS' archives, Synology's disks and ext file systems.
WINDOWS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}
OTHERS = {"__macosx", "@eadir", "lost+found"}
NO_DATA = WINDOWS | OTHERS


def is_data(name: str | PurePath) -> bool:
    """Whether no part of a relative path, as of an archive's member, is such a name."""
    parts = PurePath(name).parts
    return not any(part.startswith(".") or part.lower() in NO_DATA for part in parts)
