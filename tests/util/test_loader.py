"""util.loader: the same images whatever the workers, the batches and the interruptions."""

import multiprocessing
import os
import signal
from contextlib import closing
from multiprocessing.process import BaseProcess

import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset
from torch.utils.data._utils import signal_handling

from tests.support.processes import wait_for
from util.data import training_transform
from util.loader import AugmentedDataset, make_loader
from util.sampler import EpochSampler, EvaluationSampler
from util.signals import STOP_SIGNALS


def source(length: int = 37) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (length, 3, 16, 16), generator=generator).to(torch.uint8)
    return TensorDataset(images, torch.arange(length))


def augmented(*, seed: int = 2) -> AugmentedDataset:
    transform = training_transform(16, padding=3, flip=True, auto_aug=True, cutout=True)
    return AugmentedDataset(source(), transform, seed=seed)


def epoch_of_images(
    *, epoch: int = 4, num_workers: int = 0, batch_size: int = 8, start: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = augmented()
    sampler = EpochSampler(len(dataset), seed=9, shuffle=True)
    loader = make_loader(
        dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers, device="cpu"
    )
    sampler.set_epoch(epoch, start)
    images, labels = zip(*loader, strict=True)
    assert len(images) == len(loader)
    return torch.cat(images), torch.cat(labels)


def test_an_item_depends_on_seed_epoch_and_index_only():
    dataset = augmented()
    image, label = dataset[3, 5]
    torch.rand(11)
    dataset[3, 6]
    again, _ = dataset[3, 5]
    assert torch.equal(image, again) and label == 5
    assert not torch.equal(image, dataset[4, 5][0])
    assert not torch.equal(image, augmented(seed=3)[3, 5][0])
    assert len(dataset) == 37


def test_an_item_leaves_every_generator_of_the_caller_alone(monkeypatch):
    def fail(seed):
        raise AssertionError("the accelerators were reseeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    before = torch.get_rng_state()
    augmented()[0, 1]
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbouring_items_draw_independently():
    """Flips of neighbouring indices and epochs: half of each, and no correlation."""
    dataset = AugmentedDataset(source(), lambda image: torch.rand(()), seed=0)
    draws = torch.tensor([[dataset[epoch, index][0] for index in range(37)] for epoch in range(90)])
    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    for moved in (draws.roll(1, 0), draws.roll(1, 1)):
        assert torch.corrcoef(torch.stack([draws.flatten(), moved.flatten()]))[0, 1].abs() < 0.06


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(num_workers):
    images, labels = epoch_of_images()
    others, other_labels = epoch_of_images(num_workers=num_workers)
    assert images.dtype == torch.uint8 and images.shape == (37, 3, 16, 16)
    assert torch.equal(images, others) and torch.equal(labels, other_labels)


def test_images_do_not_depend_on_the_batch_size():
    assert torch.equal(epoch_of_images(batch_size=8)[0], epoch_of_images(batch_size=5)[0])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_resumed_in_the_middle_shows_the_same_images(num_workers):
    images, labels = epoch_of_images()
    rest, rest_labels = epoch_of_images(start=16, num_workers=num_workers)
    assert torch.equal(images[16:], rest) and torch.equal(labels[16:], rest_labels)


def test_surviving_workers_follow_the_epoch():
    dataset = augmented()
    sampler = EpochSampler(len(dataset), seed=9, shuffle=True)
    loader = make_loader(dataset, batch_size=8, sampler=sampler, num_workers=2, device="cpu")
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen = torch.cat([images for images, _ in loader])
        assert torch.equal(seen, epoch_of_images(epoch=epoch)[0])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_never_draws_from_the_global_generator(num_workers):
    before = torch.get_rng_state()
    epoch_of_images(num_workers=num_workers)
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_over_several_ranks_counts_each_sample_once():
    dataset, labels = source(), []
    for rank in range(3):
        sampler = EvaluationSampler(len(dataset), rank=rank, world_size=3)
        loader = make_loader(dataset, batch_size=4, sampler=sampler, num_workers=0, device="cpu")
        labels += [batch_labels for _, batch_labels in loader]
    assert torch.equal(torch.cat(labels).sort().values, torch.arange(37))


class HeldSignals(Dataset):
    """Tells which signals are held back where the item is fetched."""

    def __getitem__(self, index: int) -> list[int]:
        held = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return [int(number in held) for number in STOP_SIGNALS]


class Numbers(Dataset):
    """Something that is made when it is asked for."""

    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_worker_that_a_signal_hits_while_it_begins_lives_on(number, monkeypatch):
    """A scheduler signals all processes at once, those that have just begun too."""
    begin = signal_handling._set_worker_signal_handlers

    def begin_under_fire():
        begin()
        os.kill(os.getpid(), number)

    monkeypatch.setattr(signal_handling, "_set_worker_signal_handlers", begin_under_fire)
    loader = make_loader(
        Numbers(), batch_size=2, sampler=EvaluationSampler(6), num_workers=2, device="cpu"
    )
    assert [batch.tolist() for batch in loader] == [[0, 1], [2, 3], [4, 5]]


def test_workers_leave_signals_to_the_main_process():
    for num_workers in (0, 1):
        loader = make_loader(
            HeldSignals(), batch_size=1, sampler=EvaluationSampler(1), num_workers=num_workers,
            device="cpu",
        )  # fmt: skip
        with closing(loader):
            held = next(iter(loader))
        assert [int(number) for number in held] == [num_workers] * len(STOP_SIGNALS)


class Standing(Dataset):
    """Items of which one stops its process, which no SIGTERM ends then."""

    def __getitem__(self, index: int) -> int:
        if index == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        return index


def test_no_worker_outlives_its_loader_whatever_it_does_and_whoever_refers_to_it():
    before = multiprocessing.active_children()
    loader = make_loader(
        Standing(), batch_size=1, sampler=EvaluationSampler(9), num_workers=2, device="cpu"
    )
    with closing(loader):
        batches = iter(loader)
        assert next(batches) == 0
        assert len(multiprocessing.active_children()) == len(before) + 2
    wait_for(lambda: multiprocessing.active_children() == before, 60)
    assert batches is not None


class Unsendable(Dataset):
    """Batches that a worker makes and cannot send."""

    def __getitem__(self, index: int) -> int:
        return index

    @staticmethod
    def as_batch(samples: list[int]) -> object:
        return lambda: samples  # which no pickle can hold


def test_a_batch_that_cannot_be_sent_is_an_error_and_not_waited_for():
    loader = make_loader(
        Unsendable(), batch_size=1, sampler=EvaluationSampler(3), num_workers=1, device="cpu"
    )
    loader.collate_fn = Unsendable.as_batch
    with closing(loader), pytest.raises(Exception, match="while a batch was sent") as failure:
        next(iter(loader))
    assert "pickle" in str(failure.value)


@pytest.mark.parametrize(("device", "num_workers"), [("cpu", 0), ("cuda", 2), ("cuda:1", 0)])
def test_memory_is_pinned_for_cuda_and_workers_persist(device, num_workers):
    loader = make_loader(
        augmented(), batch_size=4, sampler=EvaluationSampler(37), num_workers=num_workers,
        device=device,
    )  # fmt: skip
    assert loader.pin_memory is device.startswith("cuda")
    assert loader.persistent_workers is (num_workers > 0)


@pytest.fixture
def begun(monkeypatch):
    """The processes that begin during a test."""
    begun, start = [], BaseProcess.start

    def start_and_tell(process):
        begun.append(process)
        start(process)

    monkeypatch.setattr(BaseProcess, "start", start_and_tell)
    return begun


@pytest.mark.parametrize("part", [None, [4, 0, 9]])
def test_samples_in_memory_are_loaded_without_workers(part, begun):
    dataset = source() if part is None else Subset(Subset(source(), range(1, 20)), part)
    chosen = torch.arange(37) if part is None else torch.tensor(part) + 1
    sampler = EvaluationSampler(len(dataset))
    loader = make_loader(dataset, batch_size=8, sampler=sampler, num_workers=8, device="cpu")
    images, labels = (torch.cat(batches) for batches in zip(*loader, strict=True))
    assert torch.equal(labels, chosen) and torch.equal(images, source().tensors[0][chosen])
    assert begun == []


@pytest.mark.parametrize("dataset", [augmented(), Subset(augmented(), [(0, 1)]), Numbers()])
def test_samples_that_take_work_keep_their_workers(dataset, begun):
    sampler = EvaluationSampler(1) if isinstance(dataset, Subset | Numbers) else [(0, 1)]
    loader = make_loader(dataset, batch_size=8, sampler=sampler, num_workers=2, device="cpu")
    assert len(list(loader)) == 1
    assert len(begun) == 2


@pytest.mark.parametrize(
    ("batch_size", "num_workers", "message"),
    [(0, 0, "batch size 0"), (-3, 0, "batch size -3"), (4, -1, "num_workers -1")],
)
def test_impossible_loaders_are_refused(batch_size, num_workers, message):
    with pytest.raises(ValueError, match=message):
        make_loader(
            source(),
            batch_size=batch_size,
            sampler=EvaluationSampler(37),
            num_workers=num_workers,
            device="cpu",
        )
