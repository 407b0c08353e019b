"""Runs whose data-loading processes fail or may open few files, and runs whose data change."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch.utils.data import Dataset, Subset

from tests.fault import micro_run
from tests.fault.process import CRASHED, disturbed, start
from tests.fault.trial import WORKERS, assert_says, promise
from util.data import ImageData

pytestmark = pytest.mark.own_process


def cannot_be_read() -> None:
    raise ValueError("3.jpg cannot be read")


def is_a_mistake() -> None:
    raise TypeError("a mistake")


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


FAILURES = (
    (cannot_be_read, "error: 3.jpg cannot be read", 1),
    (is_a_mistake, "TypeError: a mistake", CRASHED),
    (is_killed, "error: a process that loads data was ended", 1),
)


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


@promise(
    "an unreadable image, a mistake or kill -9 in a process that loads data: all end, with one "
    "sentence (a mistake: a traceback); resumed: identical",
    full=12,
    quick=3,
)
def test_fail_while_loading(runs, choose, trial):
    fail, words, code = FAILURES[trial % 3]
    key = (choose.randrange(2), choose.randrange(micro_run.TRAINING_IMAGES))  # epoch, image

    def with_failure(data: ImageData) -> ImageData:
        return replace(data, train=Failing(data.train, key, fail))

    child = runs.begin(runs.folder(), *WORKERS, change=with_failure)
    assert_says(child, words, code)
    runs.assert_resumes(child.log_path)


@promise("few open files: one sentence; resumed with more: identical", range(1, 17), [13])
def test_open_few_files(runs, trial):
    """So many beside those that are open: a sentence, whatever wants the next.

    Python's clean-up of a temporary folder, which opens files too, may complain after it.
    """
    log_path = runs.folder()

    def limited() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = len(os.listdir("/proc/self/fd")) - 1  # one is that of the listing
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + trial, most))
        runs.main(log_path, *WORKERS)()

    child = start(limited, log_path / "output")
    assert_says(child, "error: too many open files", 1, 2, alone=False)
    runs.assert_resumes(log_path)


@promise(
    "other training images or classes at the resume: refused, exit code 2; the same again: "
    "identical",
    full=5,
    quick=1,
)
def test_change_data(runs, choose):
    child, code = disturbed(
        runs.begin_training,
        lambda child: child.send(signal.SIGTERM),
        longest=runs.seconds,
        choose=choose,
    )
    assert code == 128 + signal.SIGTERM, child.text()
    for change, words in ((fewer_images, "28 training samples"), (other_classes, "class 0 is")):
        assert_says(runs.begin(child.log_path, change=change), words, 2)
    runs.assert_resumes(child.log_path)


def fewer_images(data: ImageData) -> ImageData:
    fewer = Subset(data.train.source, range(micro_run.TRAINING_IMAGES - 1))
    return replace(data, train=replace(data.train, source=fewer))


def other_classes(data: ImageData) -> ImageData:
    return replace(data, class_names=("another", *data.class_names[1:]))
