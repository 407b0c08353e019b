"""Everything of a data set once, in several processes, to check or to convert it."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

from torch.utils.data import Dataset

from util.loader import SteadyLoader, prepare_worker


def read_once(dataset: Dataset, *, num_workers: int) -> Iterator[Any]:
    """The items of a data set one by one, made in `num_workers` processes; 0: in this one.

    Close it (`contextlib.closing`) on every way out: that ends the processes, each after the item
    that it has begun.
    """
    loader = SteadyLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=prepare_worker,
    )
    with closing(loader):
        yield from loader
