"""The training images of this process: for each step its parts, in an order that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from experiment.train.task import Training
from util.process.loader import make_loader
from util.process.sampler import EpochSampler


class StepBatches:
    """This process's batches of every epoch. Close it (`contextlib.closing`) on every way out."""

    def __init__(self, training: Training):
        data, recipe, group = training.data, training.recipe, training.group
        self.share, self.accum = training.share, recipe.accum
        self.sampler = EpochSampler(
            len(data.train), seed=recipe.seed, rank=group.rank, world_size=group.world_size
        )
        self.loader = make_loader(
            data.train,
            batch_size=training.part,
            sampler=self.sampler,
            num_workers=recipe.num_workers,
            device=group.device,
        )

    @property
    def steps(self) -> int:
        """Steps of an epoch; the last may have fewer images."""
        return -(-self.sampler.shard_length // self.share)

    def of_epoch(self, epoch: int, done: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """The parts of each step, (images, labels) as loaded, after the first `done` steps."""
        start = min(done * self.share, self.sampler.shard_length)
        self.sampler.set_epoch(epoch, start=start)
        batches = iter(self.loader)
        while parts := list(islice(batches, self.accum)):
            yield parts

    def keys(self, step: int) -> list[tuple[int, int]]:
        """The (epoch, index) of the images in a step of the present epoch."""
        begin = step * self.share - self.sampler.start
        return list(islice(self.sampler, begin, begin + self.share))

    def close(self) -> None:
        self.loader.close()
