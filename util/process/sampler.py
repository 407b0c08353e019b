"""In which order samples are visited, by which rank, and with which randomness.

Everything is a pure function of (seed, epoch, position): no generator is carried along, so a run
resumed in the middle of an epoch, with another number of workers, meets the same samples, and
each sample the same augmentation.
"""

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


def mixed_seed(*parts: int | str) -> int:
    """A seed in 0 .. 2**63 - 1, as good as independent for different `parts`."""
    text = "/".join(map(str, parts))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class EpochSampler(Sampler[tuple[int, int]]):
    """Training order: yields (epoch, index), the keys of util.process.loader.AugmentedDataset.

    The permutation depends on (seed, epoch) only. It is cut to a multiple of `world_size`, so
    that every rank takes the same number of steps, and rank r gets its entries r,
    r + world_size, r + 2 world_size, ...
    """

    def __init__(self, length: int, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if length < world_size:
            raise ValueError(
                f"{length} training samples cannot be shared by {world_size} ranks: "
                "use fewer ranks or more data"
            )
        self.length = length
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    @property
    def shard_length(self) -> int:
        """Samples of one rank in a whole epoch."""
        return self.length // self.world_size

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Make the next iteration that of `epoch`, without this rank's first `start` samples."""
        if not 0 <= start <= self.shard_length:
            raise ValueError(
                f"start {start}: expected 0 to {self.shard_length}, the samples of one rank"
            )
        self.epoch = epoch
        self.start = start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(mixed_seed("order", self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator)
        shard = order[self.rank :: self.world_size][self.start : self.shard_length]
        # The epoch is bound now: workers may still be fetching when the next one is set.
        epoch = self.epoch
        return ((epoch, index) for index in shard.tolist())

    def __len__(self) -> int:
        return self.shard_length - self.start
