"""One process at a time in a folder; the others wait."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO


@contextmanager
def alone_in(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes out until this one is done or dead; wait for another one first.

    The folder is made if it is not there. At the end the lock is removed, and the folder if it was
    made here and is empty.
    """
    path, lock, made = folder / ".lock", None, False
    while lock is None:
        made = made or not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        lock = _held(path, report)
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if made:
                with suppress(OSError):  # there is something in it
                    folder.rmdir()


def _held(path: Path, report: Callable[[str], None]) -> TextIO | None:
    """The lock, held as long as it is open; None if whoever held it before has removed it."""
    with suppress(FileNotFoundError), ExitStack() as opened:
        lock = opened.enter_context(open(path, "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"another process prepares {path.parent}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            opened.pop_all()  # stays open
            return lock
    return None
