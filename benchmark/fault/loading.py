"""Runs whose data-loading processes fail or may open few files, and runs whose data change.

Each trial returns None if the promise held, otherwise what was found instead.
"""

from __future__ import annotations

import os
import random
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset, Subset

from benchmark.fault import micro_run
from benchmark.fault.kill import (
    Finding,
    Unbroken,
    finding_after_resume,
    new_folder,
    started_training,
)
from benchmark.fault.process import CRASHED, Child, disturbed, start
from util.data import ImageData

WORKERS = ("--num_workers", "2")


def cannot_be_read() -> None:
    raise ValueError("3.jpg cannot be read")


def is_a_mistake() -> None:
    raise TypeError("a mistake")


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Failing(Dataset):
    """A data set with one key that no process can load."""

    def __init__(self, source: Dataset, key: tuple[int, int], fail: Callable[[], None]):
        self.source, self.key, self.fail = source, key, fail

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        if key == self.key:
            self.fail()
        return self.source[key]


def fail_while_loading(
    work: Path, unbroken: Unbroken, choose: random.Random, number: int
) -> Finding:
    """An image, a mistake in the program, or the system ends a process that loads data."""
    fail, words, code = (
        (cannot_be_read, "error: 3.jpg cannot be read", 1),
        (is_a_mistake, "TypeError: a mistake", CRASHED),
        (is_killed, "error: a process that loads data was ended", 1),
    )[number % 3]
    key = (choose.randrange(2), choose.randrange(micro_run.TRAINING_IMAGES))  # epoch, image
    log_path = new_folder(work, "failing")

    def with_failure(data: ImageData) -> ImageData:
        return replace(data, train=Failing(data.train, key, fail))

    command = unbroken.command(log_path, *WORKERS)
    child = start(partial(micro_run.main, command, change=with_failure), log_path / "output")
    return sentence_missing(child, words, (code,)) or finding_after_resume(log_path, unbroken)


def open_few_files(work: Path, unbroken: Unbroken, more: int) -> Finding:
    """So many files may be opened beside those that are: a sentence, whatever wants the next.

    Python's clean-up of a temporary folder, which opens files too, may complain after it.
    """
    log_path = new_folder(work, "files")
    main = partial(micro_run.main, unbroken.command(log_path, *WORKERS))

    def limited() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = len(os.listdir("/proc/self/fd")) - 1  # one is that of the listing
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + more, most))
        main()

    child = start(limited, log_path / "output")
    problem = sentence_missing(child, "error: too many open files", (1, 2), alone=False)
    return problem or finding_after_resume(log_path, unbroken)


def change_data(work: Path, unbroken: Unbroken, choose: random.Random) -> Finding:
    """Fewer images, or other classes, after an interruption: refused; brought back: identical."""
    child, code = disturbed(
        lambda: started_training(new_folder(work, "changed"), unbroken),
        lambda own: own.send(signal.SIGTERM), longest=unbroken.seconds, choose=choose,
    )  # fmt: skip
    if code != 128 + signal.SIGTERM:
        return f"exit code {code}: {child.text()}"
    log_path = child.log_path
    for change, words in ((fewer_images, "28 training samples"), (other_classes, "class 0 is")):
        main = partial(micro_run.main, unbroken.command(log_path), change=change)
        problem = sentence_missing(start(main, log_path / "output-changed"), words, (2,))
        if problem is not None:
            return problem
    return finding_after_resume(log_path, unbroken)


def fewer_images(data: ImageData) -> ImageData:
    data.train.source = Subset(data.train.source, range(micro_run.TRAINING_IMAGES - 1))
    return data


def other_classes(data: ImageData) -> ImageData:
    return replace(data, class_names=("another", *data.class_names[1:]))


def sentence_missing(
    child: Child, words: str, codes: tuple[int, ...], *, alone: bool = True
) -> Finding:
    """Wait; None if the program ended with one of the codes and a line that holds the words.

    alone: whether a traceback is a fault, unless the program crashed.
    """
    code, lines = child.wait(), child.text().splitlines()
    said = [line for line in lines if words in line]
    traceback = any(line.startswith("Traceback") for line in lines)
    if code not in codes or len(said) != 1 or (alone and traceback != (code == CRASHED)):
        return f"exit code {code}: {child.text()}"
    return None
