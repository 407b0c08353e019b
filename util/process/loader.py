"""From samples to batches: augmentation that repeats bit for bit, and the data loader.

Shapes: B batch, C channels, H height, W width. Batches are uint8 (B, C, H, W); they are made
float and normalised on the device (util.data.ImageData.to_input), which quarters what has to be
copied there.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Any

import torch
from torch import Tensor
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from util.process.sampler import mixed_seed
from util.process.signals import leave_stopping_to_parent, stop_signals_held


@dataclass(frozen=True, eq=False)
class AugmentedDataset(Dataset):
    """Samples of `source` with a random transform; the key of an item is (epoch, index).

    `source[index]` is (image, label), the image as `transform` takes it. What `transform` draws
    from torch's global CPU generator depends on (seed, epoch, index) only, never on the worker,
    the rank, the batch or the order; the caller's state of that generator is left as it was.
    """

    source: Dataset
    transform: Callable[[Tensor], Tensor]
    seed: int

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would reseed the accelerators as well, and nothing restores those.
            torch.default_generator.manual_seed(mixed_seed("augmentation", self.seed, epoch, index))
            image, label = self.source[index]
            return self.transform(image), label


class SteadyLoader(DataLoader):
    """A DataLoader whose workers are `WorkerBatches`, and live until it is closed.

    Close it (`contextlib.closing`) on every way out: an error would keep them alive.
    """

    def _get_iterator(self) -> Iterator:
        return WorkerBatches(self) if self.num_workers > 0 else super()._get_iterator()

    def close(self) -> None:
        """End the workers, each after the batch that it has begun."""
        if self._iterator is not None:
            self._iterator._shutdown_workers()


class WorkerBatches(_MultiProcessingDataLoaderIter):
    """Batches from workers that answer signals from their first moment on, and that end."""

    _complete = False

    def __init__(self, loader: DataLoader):
        try:
            with stop_signals_held():
                super().__init__(loader)
        except OSError as error:
            for worker in getattr(self, "_workers", ()):
                worker.kill()
            raise OSError(
                f"the processes that load data cannot be started: {error.strerror}; try fewer "
                "--num_workers, or 0"
            ) from error
        self._complete = True

    def _shutdown_workers(self) -> None:
        if self._complete:
            super()._shutdown_workers()
            for worker in self._workers:
                worker.kill()  # one that stands still heeds nothing else


def prepare_worker(worker: int) -> None:
    """What a worker does first (a `worker_init_fn`): learn how it ends, and how it fails."""
    leave_stopping_to_parent(worker)
    Queue._on_queue_feeder_error = _send_error
    sys.excepthook = lambda *error: None  # of its thread that hands over batches: the parent fails


def _send_error(queue: Queue, error: Exception, answer: tuple[int, Any]) -> None:
    """Send why a batch could not be sent: the parent would wait for it for ever."""
    number, content = answer
    if isinstance(content, ExceptionWrapper):
        os._exit(1)  # nothing at all can be sent
    where = "while a batch was sent by a DataLoader worker process"
    queue.put((number, ExceptionWrapper((type(error), error, error.__traceback__), where)))


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    sampler: Sampler | range,
    num_workers: int,
    device: torch.device | str,
) -> SteadyLoader:
    """Batches of `dataset` in the order of `sampler`; the last one may be smaller.

    Pinned memory when `device` is CUDA; workers, where there are any, live on between epochs.
    Samples `in_memory` are loaded without them: to start a worker takes longer than to copy some
    thousand rows. The loader has a generator of its own and never draws from the global one.
    Raises ValueError for a batch size below 1 or a negative number of workers.
    """
    if batch_size < 1:
        raise ValueError(f"batch size {batch_size}: expected at least 1 sample")
    if num_workers < 0:
        raise ValueError(f"num_workers {num_workers}: expected 0 (load in this process) or more")
    if in_memory(dataset):
        num_workers = 0
    return SteadyLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        pin_memory=torch.device(device).type == "cuda",
        persistent_workers=num_workers > 0,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),
    )


def in_memory(dataset: Dataset) -> bool:
    """Whether samples are rows of tensors: nothing is read, decoded or augmented for them."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return isinstance(dataset, TensorDataset)


def read_once(dataset: Dataset, *, num_workers: int) -> Iterator[Any]:
    """The items of a data set one by one, made in `num_workers` processes; 0: in this one.

    Close it (`contextlib.closing`) on every way out: that ends the processes, each after the item
    that it has begun. The process's own random state stays as it was.
    """
    loader = SteadyLoader(
        dataset,
        batch_size=None,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # else the workers' seed is drawn from the process's own
    )
    with closing(loader):
        yield from loader
