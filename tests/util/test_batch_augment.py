"""util.batch_augment: the per-image pipeline given the same draws, and how often each is drawn."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.utils.data import TensorDataset
from torchvision.transforms.v2 import functional as F

from tests.support.sample_images import sample_images
from util import image_augment
from util.batch_augment import (
    FIELDS,
    NO_OPERATION,
    OPERATION_NAMES,
    BatchAugmentation,
    Draws,
    KeyedDataset,
    KeyedImages,
    uniform_numbers,
)
from util.data import load_dataset
from util.image_augment import CIFAR_POLICY, Cutout, apply_operation
from util.loader import make_loader
from util.sampler import EpochSampler

LIKELY = 1e-4  # p-value that a right generator falls below once in ten thousand seeds


def keyed(images: torch.Tensor, epoch: int = 0) -> KeyedImages:
    return KeyedImages(images, torch.full((len(images),), epoch), torch.arange(len(images)))


def draws_of(augmentation: BatchAugmentation, batch: KeyedImages) -> Draws:
    keys = batch.epochs.numpy(), batch.indices.numpy()
    height, width = batch.images.shape[-2:]
    numbers = uniform_numbers(augmentation.seed, *keys, len(FIELDS))
    return Draws.of(numbers, padding=augmentation.padding, height=height, width=width)


def one_by_one(augmentation: BatchAugmentation, batch: KeyedImages, monkeypatch) -> torch.Tensor:
    """torchvision's and util.image_augment's operations with the draws of the batch."""
    draws = draws_of(augmentation, batch)
    results = []
    for b, image in enumerate(batch.images):
        height, width = image.shape[-2:]
        image = F.pad(image, [augmentation.padding] * 4)
        image = F.crop(image, int(draws.top[b]), int(draws.left[b]), height, width)
        if augmentation.flip and draws.mirrored[b]:
            image = F.horizontal_flip(image)
        if augmentation.auto_aug:
            for number, level, sign in zip(
                draws.operations[b], draws.levels[b], draws.signs[b], strict=True
            ):
                if number != NO_OPERATION:
                    image = apply_operation(image, OPERATION_NAMES[number], int(level), int(sign))
        if augmentation.cutout:
            centre = iter((draws.row[b], draws.column[b]))
            with monkeypatch.context() as patch:
                patch.setattr(image_augment.torch, "randint", lambda *_: next(centre))  # noqa: B023
                image = Cutout()(image)
        results.append(image)
    return torch.stack(results)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("switches", list(product((False, True), repeat=3)))
def test_a_batch_equals_its_images_one_by_one_with_the_same_draws(channels, switches, monkeypatch):
    augmentation = BatchAugmentation(5, 3, *switches)
    *square, oblong = sample_images(channels)
    for images in (torch.stack(square * 6), oblong[None].repeat(5, 1, 1, 1)):
        batch = keyed(images)
        before = images.clone()
        result = augmentation(batch)
        assert result.dtype == torch.uint8 and result.shape == images.shape
        assert torch.equal(result, one_by_one(augmentation, batch, monkeypatch))
        assert torch.equal(images, before)


def test_numbers_are_uniform_and_independent_between_fields_images_and_epochs():
    epochs, indices = (axis.ravel() for axis in np.meshgrid(range(8), range(5000)))
    numbers = uniform_numbers(60, epochs, indices, len(FIELDS))
    assert numbers.shape == (10, 40_000) and numbers.min() >= 0 and numbers.max() < 1
    for field in numbers:
        assert chisquare(np.histogram(field, 100, (0, 1))[0]).pvalue > LIKELY
    pairs = [(numbers[i], numbers[j]) for i in range(10) for j in range(i)]
    pairs += [(field[8:], field[:-8]) for field in numbers]  # the image before, the same epoch
    by_epoch = numbers.reshape(10, 5000, 8)
    pairs += [(field[:, 1:].ravel(), field[:, :-1].ravel()) for field in by_epoch]
    for one, other in pairs:
        counts = np.histogram2d(one, other, 10, ((0, 1), (0, 1)))[0]
        assert chisquare(counts.ravel()).pvalue > LIKELY


def test_numbers_depend_on_seed_epoch_and_index_alone():
    indices = np.arange(50)
    numbers = uniform_numbers(1, np.zeros(50, int), indices, 10)
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(
        uniform_numbers(1, np.zeros(50, int), indices[order], 10), numbers[:, order]
    )
    for other in (
        uniform_numbers(2, np.zeros(50, int), indices, 10),
        uniform_numbers(1, np.ones(50, int), indices, 10),
        uniform_numbers(1, indices, np.zeros(50, int), 10)[:, 1:],
    ):
        assert not np.isin(other, numbers).any()


@pytest.fixture(scope="module")
def many_draws():
    """Of 100,000 images, 9 x 7 pixels."""
    count = 100_000
    numbers = uniform_numbers(3, np.zeros(count, int), np.arange(count), len(FIELDS))
    return Draws.of(numbers, padding=2, height=9, width=7)


def test_crops_flips_and_squares_are_drawn_equally_often(many_draws):
    for names, possible in (
        (("top", "left"), (5, 5)),
        (("row", "column"), (9, 7)),
        (("mirrored",), (2,)),
    ):
        values = zip(*(getattr(many_draws, name).tolist() for name in names), strict=True)
        counts = Counter(values)
        assert set(counts) == set(product(*map(range, possible)))
        assert chisquare(list(counts.values())).pvalue > LIKELY


def test_the_policy_is_drawn_with_its_probabilities(many_draws):
    """Every sequence of operations, levels and signs, as the per-image test counts them."""
    expected = Counter()
    for row in CIFAR_POLICY:
        for used in product((False, True), repeat=2):
            for signs in product((-1, 1), repeat=2):
                probability, sequence = 1 / len(CIFAR_POLICY) / 4, []
                for (p, name, level), use, sign in zip(row, used, signs, strict=True):
                    probability *= p if use else 1 - p
                    sequence += [(name, level, sign)] if use else []
                expected[tuple(sequence)] += probability
    observed = Counter(
        tuple(
            (OPERATION_NAMES[number], level, sign)
            for number, level, sign in zip(*steps, strict=True) if number != NO_OPERATION
        )
        for steps in zip(many_draws.operations.tolist(), many_draws.levels.tolist(),
                         many_draws.signs.tolist(), strict=True)
    )  # fmt: skip
    possible = [sequence for sequence, probability in expected.items() if probability > 0]
    assert set(observed) <= set(possible)
    draws = sum(observed.values())
    counts = [observed[sequence] for sequence in possible]
    assert chisquare(counts, [draws * expected[sequence] for sequence in possible]).pvalue > LIKELY


@pytest.fixture
def data():
    return load_dataset("FakeData", ".", auto_aug=True, cutout=True, batch_aug=True, seed=4)


def epoch_of(data, *, batch_size, ranks=1, start=0, num_workers=0, epoch=2):
    """(images after augmentation, label) by index, over all ranks."""
    found = {}
    for rank in range(ranks):
        sampler = EpochSampler(len(data.train), seed=0, shuffle=True, rank=rank, world_size=ranks)
        sampler.set_epoch(epoch, start=start)
        for batch, labels in make_loader(
            data.train, batch_size=batch_size, sampler=sampler, num_workers=num_workers,
            device="cpu",
        ):  # fmt: skip
            assert set(batch.epochs.tolist()) == {epoch}
            augmented = data.augmentation(batch.to(torch.device("cpu"), non_blocking=True))
            for index, image, label in zip(batch.indices.tolist(), augmented, labels, strict=True):
                found[index] = image, int(label)
    return found


def test_an_image_does_not_depend_on_batches_ranks_workers_or_where_the_epoch_began(data):
    whole = epoch_of(data, batch_size=64)
    assert len(whole) == 512
    images, labels = data.train.source.tensors
    assert all(label == labels[index] for index, (_, label) in whole.items())
    changed = sum(not torch.equal(image, images[index]) for index, (image, _) in whole.items())
    assert changed > 500
    for others in (
        epoch_of(data, batch_size=50, ranks=3),
        epoch_of(data, batch_size=64, start=448, num_workers=2),
    ):
        assert len(others) in (510, 64)
        for index, (image, _) in others.items():
            assert torch.equal(image, whole[index][0])
    later = epoch_of(data, batch_size=64, epoch=3)
    assert sum(not torch.equal(image, later[index][0]) for index, (image, _) in whole.items()) > 500


def test_the_network_gets_augmented_batches_in_training_and_plain_ones_in_evaluation(data):
    images, labels = data.train.source.tensors
    batch = keyed(images[:20], epoch=1)
    expected = data.to_input(data.augmentation(batch))
    assert torch.equal(data.to_input(batch), expected)
    assert expected.dtype == torch.float32
    image = data.test[3][0][None]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    assert torch.equal(data.to_input(image), (image / 255 - mean) / std)
    assert isinstance(data.train, KeyedDataset) and data.train[1, 7][1] == labels[7]


def test_the_seed_and_the_recipe_reach_the_batches():
    single = load_dataset("Digits", ".", seed=4)
    assert single.augmentation is None
    digits = load_dataset("Digits", ".", batch_aug=True, seed=4, validation_fraction=0.2)
    assert digits.augmentation == BatchAugmentation(4, 2, False, False, False)
    assert len(digits.train) + len(digits.validation) == len(single.train)
    images = digits.train.source.tensors[0][:40]
    result = digits.augmentation(keyed(images))
    shifts = [torch.nn.functional.pad(images, [2] * 4)[..., r : r + 32, c : c + 32]
              for r in range(5) for c in range(5)]  # fmt: skip
    assert torch.stack([(result == shift).flatten(1).all(1) for shift in shifts]).any(0).all()
    other = load_dataset("Digits", ".", batch_aug=True, seed=5)
    assert not torch.equal(other.augmentation(keyed(images)), result)


def test_keys_stay_on_the_host():
    dataset = KeyedDataset(TensorDataset(torch.zeros(3, 1, 2, 2), torch.arange(3)))
    image, label = dataset[4, 2]
    assert (image.epochs, image.indices, int(label), len(dataset)) == (4, 2, 2, 3)
    moved = keyed(torch.zeros(3, 1, 2, 2)).to(torch.device("meta"))
    assert moved.images.is_meta and not moved.indices.is_meta
