"""Reads every sample of a data set once, in several processes, and lists those that are bad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from torch.utils.data import ConcatDataset, Dataset

from util.process.loader import read_once
from util.process.progress import Countdown

Problem = Callable[[Dataset, int], str | None]  # of a sample: None where nothing is wrong


class SampleCheck(Dataset):
    """What is wrong with each sample of a data set, by `problem_of`."""

    def __init__(self, samples: Dataset, problem_of: Problem) -> None:
        self.samples = samples
        self.problem_of = problem_of

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> str | None:
        return self.problem_of(self.samples, index)


def find_bad_samples(
    parts: Sequence[Dataset],
    problem_of: Problem,
    *,
    num_workers: int,
    report: Callable[[str], None],
) -> list[str]:
    """The problems of all samples of some parts of a data set, in order.

    They are read in `num_workers` processes; 0: in this one.
    `report` is given a line now and then where no progress bar is drawn.
    """
    if not parts:
        return []
    check = ConcatDataset([SampleCheck(part, problem_of) for part in parts])
    with (
        closing(Countdown("checking", len(check), report)) as countdown,
        closing(read_once(check, num_workers=min(num_workers, len(check)))) as problems,
    ):
        found = []
        for problem in problems:
            found += [] if problem is None else [problem]
            countdown.advance()
    return found
