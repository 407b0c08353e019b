"""The newest checkpoint of a run and the few before it: last.pt, last-1.pt, last-2.pt, ...

The newest file is always last.pt; a larger number is older. Saving never has a moment without a
good file, whichever system call it is killed at: the new bytes are complete on the disk before
anything moves, names are shifted towards a free one so that none is overwritten, last.pt gets a
second name (a hard link) instead of losing its own, the new file replaces it in one rename, and
only then are surplus files deleted. So a damaged last.pt never pushes the last good file out
before a good one has taken its place. A save that is killed before the deletion leaves one file too
many; the next one that ends deletes what all of them have left.

The checkpoint of the best epoch is written once, as best.pt, and last.pt becomes a second name of
that file (a copy where the file system has no links, or no earlier checkpoint is kept). In this
order, because a kill between the two leaves a last.pt that does not know of that epoch yet, so that
whoever resumes computes and saves it again: best.pt is always whole, and never older than what any
last.pt takes for the best.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from util.checkpoint import CheckpointError, load_checkpoint, sealed_archive
from util.file.atomic import sync_folder, write_atomically

NEWEST = "last.pt"
BEST = "best.pt"
EARLIER = re.compile(r"last-([1-9]\d*)\.pt")


def save_newest(
    state: dict[str | int, Any], folder: str | os.PathLike, *, keep: int = 2, is_best: bool = False
) -> Path:
    """Save `state` as last.pt, and as best.pt if it is; keep the `keep - 1` checkpoints before it.

    Raises: ValueError for `keep` below 1 or what `save_checkpoint` refuses; OSError if the file
    could not be written: the earlier ones are kept.
    """
    if keep < 1:
        raise ValueError(f"keep is the number of checkpoints kept and must be >= 1, got {keep}")
    archive = sealed_archive(state)
    newest, best = Path(folder) / NEWEST, Path(folder) / BEST
    if is_best:
        write_atomically(best, archive)
    write_atomically(
        newest,
        archive,
        before_rename=lambda: _give_second_name(newest),
        # One file must not be all that there is: damage to it would be the run's end.
        same_as=best if is_best and keep > 1 else None,
    )
    _delete_surplus(newest.parent, keep)
    return newest


def list_checkpoints(folder: str | os.PathLike) -> list[Path]:
    """last.pt and its predecessors that exist in `folder`, newest first (best.pt is not one)."""
    folder = Path(folder)
    numbered = []
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name == NEWEST:
                numbered.append((0, path))
            elif match := EARLIER.fullmatch(path.name):
                numbered.append((int(match[1]), path))
    return [path for _, path in sorted(numbered)]


def load_newest(
    paths_newest_first: Iterable[str | os.PathLike], report: Callable[[str], None]
) -> tuple[dict[str | int, Any], Path]:
    """The first good file's state and path; `report` gets a sentence for each bad one before it.

    Raises: CheckpointError if there is no path, or none of them is good.
    """
    paths = [Path(path) for path in paths_newest_first]
    if not paths:
        raise CheckpointError("there is no checkpoint to load; start a new run")
    for path in paths:
        try:
            return load_checkpoint(path), path
        except CheckpointError as error:
            report(str(error))
    names = ", ".join(str(path) for path in paths)
    raise CheckpointError(f"none of the checkpoints can be used ({names}); start a new run")


def _give_second_name(newest: Path) -> None:
    """Let last.pt also be last-1.pt, moving the earlier files up to the first free number."""
    if not newest.exists():
        return
    first = newest.with_name("last-1.pt")
    names = [first]
    while names[-1].exists():  # up to a free one
        names.append(newest.with_name(f"last-{len(names) + 1}.pt"))
    if first.exists() and os.path.samefile(first, newest):
        return  # killed between here and the rename: nothing to shift a second time
    for younger, older in reversed(list(pairwise(names))):
        os.replace(younger, older)
    try:
        os.link(newest, first)
    except OSError:  # a file system without hard links; last-1.pt then stands in for a moment
        os.replace(newest, first)


def _delete_surplus(folder: Path, keep: int) -> None:
    for path in list_checkpoints(folder)[keep:]:
        with suppress(OSError):  # harmless: the new checkpoint is safe, the next save tries again
            os.unlink(path)
    with suppress(OSError):
        sync_folder(folder)
