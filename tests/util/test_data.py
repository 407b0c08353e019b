"""util.data: each data set comes with its own augmentation, normalisation and splits."""

from contextlib import closing

import pytest
import torch
from torchvision import transforms as v1
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from tests.support.data_files import write_cifar, write_mnist_family
from tests.support.image_files import write_tree
from util.data import DATASETS, FOLDER, load_dataset, small_image_transform
from util.image.image_sets import make_fake_data
from util.image.picture_folder import PictureOptions
from util.image_augment import CifarAutoAugment, Cutout
from util.process.loader import make_loader
from util.training_part import TrainingPart


def steps(data) -> list[type]:
    return [type(step) for step in data.train.transform.transforms]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """load_dataset with small files for every name that needs some."""
    write_cifar(monkeypatch, CIFAR10, tmp_path)
    for name in ("MNIST", "FashionMNIST"):
        write_mnist_family(tmp_path / name, suffix=".gz")
    return lambda name, **arguments: load_dataset(name, tmp_path, **arguments)


CIFAR_STEPS = [v2.RandomCrop, v2.RandomHorizontalFlip, CifarAutoAugment, Cutout]


@pytest.mark.parametrize(
    ("name", "expected_steps", "padding", "channels", "image_size"),
    [
        ("CIFAR10", CIFAR_STEPS, 4, 3, 32),
        ("MNIST", CIFAR_STEPS[:1], 2, 1, 28),
        ("FashionMNIST", CIFAR_STEPS[:2], 2, 1, 28),
        ("Digits", CIFAR_STEPS[:1], 2, 1, 32),
        ("FakeData", CIFAR_STEPS[:2], 4, 3, 32),
    ],
)
def test_every_set_has_its_own_defaults(load, name, expected_steps, padding, channels, image_size):
    data = load(name)
    assert steps(data) == expected_steps
    assert data.train.transform.transforms[0].padding == [padding] * 4
    assert (data.auto_aug, data.cutout) == (name == "CIFAR10",) * 2
    assert (data.channels, data.image_size, len(data.class_names)) == (channels, image_size, 10)
    assert (data.name, data.validation) == (name, None)


@pytest.mark.parametrize("auto_aug", [False, True])
@pytest.mark.parametrize("cutout", [False, True])
@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "FakeData"])
def test_augmentation_can_be_switched(load, name, auto_aug, cutout):
    data = load(name, auto_aug=auto_aug, cutout=cutout)
    assert (CifarAutoAugment in steps(data), Cutout in steps(data)) == (auto_aug, cutout)
    assert (data.auto_aug, data.cutout) == (auto_aug, cutout)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_can_be_switched(load, crop, flip):
    data = load("FakeData", crop=crop, flip=flip)
    assert (v2.RandomCrop in steps(data), v2.RandomHorizontalFlip in steps(data)) == (crop, flip)
    assert (data.crop, data.flip) == (crop, flip)
    same = all(torch.equal(data.train[0, i][0], data.train.source[i][0]) for i in range(9))
    assert same == (not crop and not flip)


@pytest.mark.parametrize("side", [32, 48])
def test_pictures_of_any_size_are_augmented_in_proportion(tmp_path, side):
    options = PictureOptions(image_size=side)
    folder = write_tree(tmp_path)
    plain = load_dataset(FOLDER, folder, pictures=options)
    data = load_dataset(FOLDER, folder, pictures=options, auto_aug=True, cutout=True)
    assert steps(plain) == CIFAR_STEPS[:2] and steps(data) == CIFAR_STEPS
    crop, *_, cutout = data.train.transform.transforms
    assert (crop.padding, cutout.size) == ([side // 8] * 4, side // 2)
    inputs = data.to_input(data.train.source.tensors[0]).double()
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-5, "measured on the training pictures"


@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "FashionMNIST", "Digits", "FakeData"])
def test_items_have_the_announced_shape_and_only_training_is_augmented(load, name):
    data = load(name, auto_aug=True, cutout=True, validation_fraction=0.3)
    shape = (data.channels, data.image_size, data.image_size)
    for image, label in (data.train[0, 1], data.validation[1], data.test[1]):
        assert image.shape == shape and image.dtype == torch.uint8
        assert 0 <= label < len(data.class_names)
    assert torch.equal(data.test[1][0], data.test[1][0])
    assert any(not torch.equal(data.train[0, i][0], data.train[1, i][0]) for i in range(5))


def test_the_seed_decides_the_augmentation(load):
    first, again, other = (
        torch.stack([load("FakeData", seed=seed).train[0, i][0] for i in range(9)])
        for seed in (1, 1, 0)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_crop_and_flip_show_every_shift_and_nothing_else():
    """Every augmented image is one of the 5 x 5 shifts by up to 2 pixels, mirrored or not."""
    image = torch.arange(1, 50, dtype=torch.uint8).view(1, 7, 7)
    padded = torch.nn.functional.pad(image, [2] * 4)
    shifts = {
        bytes(view.flatten().tolist())
        for row in range(5)
        for column in range(5)
        for part in [padded[:, row : row + 7, column : column + 7]]
        for view in (part, part.flip(2))
    }
    transform = small_image_transform(7, padding=2, flip=True, auto_aug=False, cutout=0)
    torch.manual_seed(0)
    assert {bytes(transform(image).flatten().tolist()) for _ in range(1500)} == shifts


@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "Digits"])
def test_to_input_is_the_published_normalisation(load, name):
    data = load(name)
    images = torch.stack([data.test[i][0] for i in range(7)])
    before, decimals = images.clone(), images.float()
    published = v1.Compose([v1.ToTensor(), v1.Normalize(data.mean, data.std)])
    arrays = images.permute(0, 2, 3, 1).numpy()
    expected = torch.stack([published(array) for array in arrays])
    assert torch.equal(data.to_input(images), expected)
    assert torch.equal(data.to_input(decimals), expected)
    assert torch.equal(images, before) and torch.equal(decimals, before.float())
    assert data.to_input(images.to("meta")).device.type == "meta"


@pytest.mark.parametrize("name", ["Digits", "FakeData"])
def test_measured_normalisation_centres_the_training_images(load, name):
    data = load(name)
    inputs = data.to_input(data.train.source.tensors[0]).double()
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-5
    assert (inputs.std((0, 2, 3)) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("value", [0, 37, 255])
def test_a_channel_that_never_varies_is_a_zero_and_not_no_number(load, monkeypatch, value):
    images = make_fake_data()
    images.train.tensors[0][:, 1] = value
    monkeypatch.setattr("util.data.make_fake_data", lambda: images)
    data = load("FakeData")
    inputs = data.to_input(data.train.source.tensors[0])
    assert inputs.isfinite().all() and inputs[:, 1].abs().max() < 1e-6


def test_validation_is_held_out_by_class_whatever_the_seed(load):
    whole = load("Digits")
    data = load("Digits", validation_fraction=0.2, seed=8)
    (rest, rest_labels), (held, held_labels) = data.train.source.tensors, data.validation.tensors
    images, labels = whole.train.source.tensors
    assert len(held) == 288 and len(rest) == 1149
    merged = sorted(image.numpy().tobytes() for image in [*rest, *held])
    assert merged == sorted(image.numpy().tobytes() for image in images)
    counts = labels.bincount()
    assert (held_labels.bincount() - 0.2 * counts).abs().max() <= 1
    assert torch.equal(rest_labels.bincount() + held_labels.bincount(), counts)
    assert torch.equal(load("Digits", validation_fraction=0.2).validation.tensors[0], held)
    assert data.mean == whole.mean and len(data.test) == len(whole.test)


def test_a_part_is_of_what_is_left_to_train_with_and_of_nothing_else(load):
    whole = load("Digits", validation_fraction=0.2)
    data = load("Digits", validation_fraction=0.2, part=TrainingPart(9, 0.5, seed=4))
    assert len(data.train) == 90 and len(data.notes) == 2 and whole.notes == ()
    for name in ("validation", "test"):
        (images, labels), (others, other_labels) = (getattr(x, name)[:] for x in (data, whole))
        assert torch.equal(images, others) and torch.equal(labels, other_labels)
    assert (data.mean, data.std) == (whole.mean, whole.std)
    pairs = zip(*whole.train.source[:], strict=True)
    own = {image.numpy().tobytes(): int(label) for image, label in pairs}
    items = [data.train.source[i] for i in range(90)]
    clean = [own[image.numpy().tobytes()] for image, _ in items]
    assert sorted(clean) == sorted([*range(10)] * 9)
    assert sum(int(items[i][1]) != clean[i] for i in range(90)) == 45


def test_a_training_set_has_the_same_labels_in_every_process(load):
    data = load("FakeData", part=TrainingPart(5, 0.4, seed=4))
    keys = [(epoch, index) for epoch in range(2) for index in range(50)]
    options = {"batch_size": 10, "sampler": keys, "device": "cpu"}
    with (
        closing(make_loader(data.train, num_workers=0, **options)) as one,
        closing(make_loader(data.train, num_workers=2, **options)) as other,
    ):
        one, other = (torch.cat([labels for _, labels in loader]) for loader in (one, other))
    assert torch.equal(one, other) and torch.equal(one[:50], one[50:])


WRONG = [
    ("cifar10", None, f"'cifar10': choose from {', '.join(DATASETS)}"),
    ("FakeData", 0.0, "validation fraction 0.0: expected"),
    ("FakeData", 1.0, "validation fraction 1.0: expected"),
    ("FakeData", 0.01, "0.01 of 512 samples does not leave every class on both sides"),
]


@pytest.mark.parametrize("name, fraction, said", WRONG)
def test_wrong_arguments_are_named(tmp_path, name, fraction, said):
    with pytest.raises(ValueError, match=said):
        load_dataset(name, tmp_path, validation_fraction=fraction)


def test_the_home_folder_may_be_abbreviated(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_mnist_family(tmp_path / "data")
    assert len(load_dataset("MNIST", "~/data").train) == 43
