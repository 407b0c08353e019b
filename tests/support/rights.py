"""Folders without the rights that one has by default, for root as well."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder in which everyone may write; pytest's own are for one user."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


@contextmanager
def rights(folder: Path, mode: int) -> Iterator[None]:
    """Give a folder another mode, which counts: until the end, root is nobody in this process."""
    user, before = os.geteuid(), folder.stat().st_mode
    folder.chmod(mode)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(before)
