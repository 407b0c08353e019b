"""The part of a test set that a command looks at, read in batches by all its processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor
from torch.utils.data import Subset

from experiment.train.evaluation import share_of_batches
from experiment.train.task import Data
from util.process.distributed import Group


class EvaluationSet(NamedTuple):
    """The first samples of a test set, each of them for exactly one process of the group.

    count: samples, None: all; batch_size: samples at a time, over all processes; num_workers:
    processes that load data from files.
    """

    data: Data
    group: Group
    count: int | None = None
    batch_size: int = 128
    num_workers: int = 0

    @property
    def samples(self) -> int:
        """How many there are, over all processes."""
        return len(self.data.test) if self.count is None else self.count

    def first(
        self, asked: int | None, default: int | None = None, *, flag: str = "images"
    ) -> EvaluationSet:
        """As many samples as asked for, or the default, which is at most all; None: all.

        Raises: ValueError, naming the flag that asked for them, if there are fewer.
        """
        there = len(self.data.test)
        if asked is not None and asked > there:
            raise ValueError(f"--{flag} {asked}: the test set has only {there}")
        usual = None if default is None else min(default, there)
        return self._replace(count=usual if asked is None else asked)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share, as `share_of_batches` gives it."""
        group, test = self.group, self.data.test
        dataset = test if self.count is None else Subset(test, range(self.samples))
        share = -(-self.batch_size // group.world_size)
        reading = {"name": "test", "batch_size": share, "num_workers": self.num_workers}
        return share_of_batches(dataset, self.data, group, **reading)

    def inputs(self) -> Iterator[Tensor]:
        """The network inputs of `batches` alone."""
        return (x for x, _ in self.batches())
