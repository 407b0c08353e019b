"""--check_data: reads every image once and lists those that no training could read.

Data sets that are held in memory have been read and verified when they were loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch.utils.data import Dataset

from experiment.bad_samples import find_bad_samples
from experiment.train.failure import leave, one_sentence_errors
from util.image.files import ImageFiles
from util.image.picture import UNREADABLE, reason_of
from util.process.place import place_from_environment


@contextmanager
def checking_images() -> Iterator[None]:
    """Around loading and checking: errors in one sentence, code 2; in one process alone."""
    with one_sentence_errors({}, interrupted="stopped before the end; nothing was written"):
        if place_from_environment().world_size > 1:
            raise ValueError("--check_data runs in one process: start it without torchrun")
        yield


def check_images(
    train: Sequence[Dataset], test: Sequence[Dataset], *, num_workers: int
) -> dict[str, int]:
    """Say how many training and test images are readable, if all are; `num_workers` processes.

    Raises: SystemExit with code 2 after a line for each bad file.
    """
    bad = find_bad_samples(
        [part for part in (*train, *test) if isinstance(part, ImageFiles)],
        problem_of,
        num_workers=num_workers,
        report=partial(print, file=sys.stderr),
    )
    counts = {"train": sum(map(len, train)), "test": sum(map(len, test))}
    if bad:
        heading = f"error: {len(bad)} of {sum(counts.values()):,} images cannot be read; replace "
        leave("\n  ".join([f"{heading}the files, or delete them:", *bad]), 2)
    print(f"{counts['train']:,} training and {counts['test']:,} test images are readable")
    return counts


def problem_of(files: ImageFiles, index: int) -> str | None:
    """What is wrong with an image; None where nothing is."""
    try:
        files.read(index)
    except UNREADABLE as error:
        return f"{files.path(index)}: {reason_of(error)}"
    return None
