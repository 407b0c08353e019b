"""Folders to write into: what is in the way is said before anything is computed for them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def refuse_unusable(folder: Path, flag: str) -> None:
    """ValueError, with the flag that named the folder, if nothing could be written there."""
    problem = folder_problem(folder)
    if problem is not None:
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
