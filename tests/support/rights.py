"""Folders without the rights that one has by default, for root as well."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def rights(folder: Path, mode: int) -> Iterator[None]:
    """Give `folder` another mode, which counts: until the end, root is nobody in this process.

    All folders above it can be entered meanwhile.
    """
    user = os.geteuid()
    above = [path for path in folder.parents if path.stat().st_uid == user]
    before = {path: path.stat().st_mode for path in (folder, *above)}
    for path in above:
        path.chmod(before[path] | 0o011)
    folder.chmod(mode)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        for path, mode_before in before.items():
            path.chmod(mode_before)
