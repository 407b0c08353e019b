"""A file that appears whole or not at all.

The bytes go to a temporary file in the same folder and are synced to the disk before a rename puts
them in place, so whoever opens the path, after a crash or a power cut too, finds the old content
or the new one. One writer per path is assumed: the temporary name is fixed, so that what a killed
writer left is removed by the next one instead of filling the disk. Removed, not overwritten: it may
be a second name of a file that is in use.
"""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def write_atomically(
    path: str | os.PathLike,
    payload: bytes | memoryview,
    *,
    before_rename: Callable[[], None] | None = None,
    same_as: str | os.PathLike | None = None,
) -> None:
    """Write `payload` to `path`; on failure nothing is left behind and what was there stays.

    Args:
        path: file to create or replace; its folder must exist.
        payload: the whole content.
        before_rename: called once the new bytes are safe on the disk, before they take the name.
        same_as: another file with that content; `path` becomes a second name of it (a hard link)
            where the file system has such, and is written otherwise.

    Raises: OSError (disk full, no such folder, ...): one sentence with path and bytes.
    """
    path = Path(path)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        if same_as is None or not _linked(same_as, temporary):
            _write_synced(temporary, payload)
        if before_rename is not None:
            before_rename()
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            sentence = f"could not write {path} ({len(payload):,} bytes): {reason}"
            raise described(error, sentence) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder; they order renames themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def described(error: OSError, sentence: str) -> OSError:
    """The same kind of OSError, with the same errno, that prints as `sentence`."""
    described_error = type(error)(sentence)
    described_error.errno = error.errno
    return described_error


def _linked(source: str | os.PathLike, path: Path) -> bool:
    """Make `path` a second name of `source`; False where that is impossible."""
    try:
        path.unlink(missing_ok=True)
        os.link(source, path)
    except OSError:
        return False
    return True


def _write_synced(path: Path, payload: bytes | memoryview) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        written = 0
        while written < len(payload):  # one write() moves at most 2 GiB
            written += os.write(descriptor, payload[written:])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
