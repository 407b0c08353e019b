"""Folders that cannot be written to, for root as well."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write to `folder` from this process, which is nobody's until the end.

    All folders above it can be entered meanwhile.
    """
    user, modes = os.geteuid(), {}
    for path in (folder, *folder.parents):
        if path.stat().st_uid == user:
            modes[path] = path.stat().st_mode
            path.chmod(modes[path] & ~0o222 | 0o555 if path == folder else modes[path] | 0o011)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode in modes.items():
            path.chmod(mode)
