"""One process at a time in a folder; the others wait."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def alone_in(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes out until this one is done or dead; wait for another one first.

    The folder is made if it is not there. At the end the lock is removed, and the folder if it was
    made here and is empty.
    """
    path, made = folder / ".lock", False
    while True:
        made = made or not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report(f"another process prepares {folder}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            # The one before may have removed the file that was opened here.
            if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
                if made:
                    with suppress(OSError):  # there is something in it
                        folder.rmdir()
            return
