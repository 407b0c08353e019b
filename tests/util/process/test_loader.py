"""util.process.loader: the same images whatever the workers, the batches and the interruptions."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import closing

import pytest
import torch
from torch.utils.data import Dataset, Sampler, Subset, TensorDataset
from torch.utils.data._utils import signal_handling

from tests.support.processes import wait_for
from util.data import small_image_transform
from util.process.loader import AugmentedDataset, SteadyLoader, make_loader, read_once
from util.process.sampler import EpochSampler
from util.process.signals import STOP_SIGNALS


def source(length: int = 37) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (length, 3, 16, 16), generator=generator).to(torch.uint8)
    return TensorDataset(images, torch.arange(length))


def augmented(*, seed: int = 2) -> AugmentedDataset:
    transform = small_image_transform(16, padding=3, flip=True, auto_aug=True, cutout=16)
    return AugmentedDataset(source(), transform, seed=seed)


def loader_of(
    dataset: Dataset, sampler: Sampler | int, *, workers: int, batch_size: int = 1
) -> SteadyLoader:
    """Samples in the order of `sampler`; 0 to n - 1 for a number n."""
    if isinstance(sampler, int):
        sampler = range(sampler)
    return make_loader(
        dataset, batch_size=batch_size, sampler=sampler, num_workers=workers, device="cpu"
    )


def epoch_of_images(
    *, epoch: int = 4, workers: int = 0, batch_size: int = 8, start: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """(37 - start, 3, 16, 16) and their labels, in the order of training."""
    sampler = EpochSampler(37, seed=9)
    loader = loader_of(augmented(), sampler, workers=workers, batch_size=batch_size)
    sampler.set_epoch(epoch, start)
    images, labels = zip(*loader, strict=True)
    assert len(images) == len(loader)
    return torch.cat(images), torch.cat(labels)


def test_an_item_depends_on_seed_epoch_and_index_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("reseeded"))
    dataset = augmented()
    image, label = dataset[3, 5]
    before = torch.get_rng_state()
    dataset[3, 6]
    again, _ = dataset[3, 5]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(image, again) and label == 5
    assert not torch.equal(image, dataset[4, 5][0])
    assert not torch.equal(image, augmented(seed=3)[3, 5][0])
    assert len(dataset) == 37


def test_neighbouring_items_draw_independently():
    """Neighbouring indices and epochs: the right mean, and no correlation."""
    dataset = AugmentedDataset(source(), lambda image: torch.rand(()), seed=0)
    draws = torch.tensor([[dataset[epoch, index][0] for index in range(37)] for epoch in range(90)])
    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    for moved in (draws.roll(1, 0), draws.roll(1, 1)):
        assert torch.corrcoef(torch.stack([draws.flatten(), moved.flatten()]))[0, 1].abs() < 0.06


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(("start", "batch_size"), [(0, 8), (0, 5), (16, 8)])
def test_images_depend_on_neither_workers_nor_batches_nor_interruptions(workers, start, batch_size):
    images, labels = epoch_of_images()
    assert images.dtype == torch.uint8 and images.shape == (37, 3, 16, 16)
    before = torch.get_rng_state()
    others = epoch_of_images(workers=workers, start=start, batch_size=batch_size)
    assert torch.equal(others[0], images[start:]) and torch.equal(others[1], labels[start:])
    assert torch.equal(torch.get_rng_state(), before)


def test_surviving_workers_follow_the_epoch():
    sampler = EpochSampler(37, seed=9)
    loader = loader_of(augmented(), sampler, workers=2, batch_size=8)
    workers = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen = torch.cat([images for images, _ in loader])
        assert torch.equal(seen, epoch_of_images(epoch=epoch)[0])
        workers.append({worker.pid for worker in loader._iterator._workers})
    assert len(workers[0]) == 2 and workers == workers[:1] * 3


class HeldSignals(Dataset):
    """Tells which signals are held back where the item is fetched."""

    def __getitem__(self, index: int) -> list[int]:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return [int(number in held) for number in STOP_SIGNALS]


class Numbers(Dataset):
    """0 to 8, made when they are asked for; for the number `at` something is done first."""

    def __init__(self, at: int | None = None, do: Callable[[], None] | None = None):
        self.at, self.do = at, do

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> int:
        if index == self.at:
            self.do()
        return index


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_worker_that_a_signal_hits_while_it_begins_lives_on(number, monkeypatch):
    """A scheduler signals all processes at once, those that have just begun too."""
    begin = signal_handling._set_worker_signal_handlers

    def begin_under_fire():
        begin()
        os.kill(os.getpid(), number)

    monkeypatch.setattr(signal_handling, "_set_worker_signal_handlers", begin_under_fire)
    loader = loader_of(Numbers(), 6, workers=2, batch_size=2)
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_leave_signals_to_the_main_process(workers):
    with closing(loader_of(HeldSignals(), 1, workers=workers)) as loader:
        held = next(iter(loader))
    assert [int(number) for number in held] == [workers] * len(STOP_SIGNALS)


def stand() -> None:
    """Stop this process, which no SIGTERM ends then."""
    os.kill(os.getpid(), signal.SIGSTOP)


def test_no_worker_outlives_its_loader_whatever_it_does_and_whoever_refers_to_it():
    before = multiprocessing.active_children()
    with closing(loader_of(Numbers(1, stand), 9, workers=2)) as loader:
        batches = iter(loader)
        assert next(batches) == 0
        assert len(multiprocessing.active_children()) == len(before) + 2
    wait_for(lambda: multiprocessing.active_children() == before, 60)
    assert batches is not None


def test_a_batch_that_cannot_be_sent_is_an_error_and_not_waited_for():
    loader = loader_of(Numbers(), 3, workers=1)
    loader.collate_fn = lambda samples: lambda: samples  # a batch that no pickle can hold
    with closing(loader), pytest.raises(Exception, match="while a batch was sent") as failure:
        next(iter(loader))
    assert "local object" in str(failure.value)


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("cuda", True), ("cuda:1", True)])
def test_memory_is_pinned_for_cuda(device, pinned):
    order = range(37)
    loader = make_loader(source(), batch_size=4, sampler=order, num_workers=0, device=device)
    assert loader.pin_memory is pinned


@pytest.mark.parametrize("part", [None, [4, 0, 9]])
def test_samples_in_memory_are_loaded_without_workers(part):
    dataset = source() if part is None else Subset(Subset(source(), range(1, 20)), part)
    chosen = torch.arange(37) if part is None else torch.tensor(part) + 1
    loader = loader_of(dataset, len(dataset), workers=8, batch_size=8)
    images, labels = (torch.cat(batches) for batches in zip(*loader, strict=True))
    assert torch.equal(labels, chosen) and torch.equal(images, source().tensors[0][chosen])
    assert loader.num_workers == 0


@pytest.mark.parametrize("dataset", [augmented(), Subset(augmented(), [(0, 1)]), Numbers()])
def test_samples_that_take_work_keep_their_workers(dataset):
    assert loader_of(dataset, 1, workers=2).num_workers == 2


@pytest.mark.parametrize(
    ("batch_size", "workers", "message"),
    [(0, 0, "batch size 0"), (-3, 0, "batch size -3"), (4, -1, "num_workers -1")],
)
def test_impossible_loaders_are_refused(batch_size, workers, message):
    with pytest.raises(ValueError, match=message):
        loader_of(source(), 37, workers=workers, batch_size=batch_size)


def refuse() -> None:
    raise ValueError("cannot be read")


@pytest.mark.parametrize("workers", [0, 2])
def test_every_item_is_read_once_in_order_and_processes_end_with_an_error(workers):
    found, state = [], torch.get_rng_state()
    items = read_once(Numbers(7, refuse), num_workers=workers)
    with pytest.raises(ValueError, match="cannot be read"), closing(items):
        for item in items:
            found.append(item)
    assert found == list(range(7))
    assert torch.equal(torch.get_rng_state(), state)  # data that are made change no weights
    assert not multiprocessing.active_children()


def test_processes_end_when_reading_is_given_up():
    with closing(read_once(Numbers(), num_workers=2)) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()
