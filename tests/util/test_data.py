"""util.data: each data set comes with its own augmentation, normalisation and splits."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset
from torchvision import transforms as v1
from torchvision.datasets import CIFAR10
from torchvision.transforms import v2

from tests.support.data_files import write_cifar, write_mnist_family
from util.data import DATASETS, load_dataset, split_off, training_transform
from util.image_augment import CifarAutoAugment, Cutout

PACKAGE = Path("/usr/share/datasets/fashion-mnist")


def steps(data) -> list[type]:
    return [type(step) for step in data.train.transform.transforms]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """load_dataset with small files for every name that needs some."""
    write_cifar(monkeypatch, CIFAR10, tmp_path)
    for name in ("MNIST", "FashionMNIST"):
        write_mnist_family(tmp_path / name, suffix=".gz")
    return lambda name, **arguments: load_dataset(name, tmp_path, download=False, **arguments)


def test_cifar_defaults_are_the_published_recipe(load):
    data = load("CIFAR10")
    assert steps(data) == [v2.RandomCrop, v2.RandomHorizontalFlip, CifarAutoAugment, Cutout]
    assert data.train.transform.transforms[0].padding == [4, 4, 4, 4]
    assert data.train.transform.transforms[3].size == 16
    assert (data.auto_aug, data.cutout) == (True, True)
    assert (data.name, data.channels, data.image_size, data.num_classes) == ("CIFAR10", 3, 32, 10)
    assert (len(data.train), len(data.test), data.validation) == (35, 7, None)
    assert data.mean == (0.4914, 0.4822, 0.4465) and data.std == (0.2023, 0.1994, 0.2010)


@pytest.mark.parametrize(
    ("name", "padding", "flip", "channels", "image_size"),
    [
        ("MNIST", 2, False, 1, 28),
        ("FashionMNIST", 2, True, 1, 28),
        ("Digits", 2, False, 1, 32),
        ("FakeData", 4, True, 3, 32),
    ],
)
def test_other_sets_have_their_own_defaults(load, name, padding, flip, channels, image_size):
    data = load(name)
    assert steps(data) == [v2.RandomCrop] + [v2.RandomHorizontalFlip] * flip
    assert data.train.transform.transforms[0].padding == [padding] * 4
    assert (data.auto_aug, data.cutout) == (False, False)
    assert (data.channels, data.image_size, data.num_classes) == (channels, image_size, 10)


@pytest.mark.parametrize("auto_aug", [False, True])
@pytest.mark.parametrize("cutout", [False, True])
@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "FakeData"])
def test_augmentation_can_be_switched(load, name, auto_aug, cutout):
    data = load(name, auto_aug=auto_aug, cutout=cutout)
    assert (CifarAutoAugment in steps(data), Cutout in steps(data)) == (auto_aug, cutout)
    assert (data.auto_aug, data.cutout) == (auto_aug, cutout)


@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "FashionMNIST", "Digits", "FakeData"])
def test_items_have_the_announced_shape_and_only_training_is_augmented(load, name):
    data = load(name, auto_aug=True, cutout=True, validation_fraction=0.3)
    shape = (data.channels, data.image_size, data.image_size)
    for image, label in (data.train[0, 1], data.validation[1], data.test[1]):
        assert image.shape == shape and image.dtype == torch.uint8
        assert 0 <= label < data.num_classes
    assert torch.equal(data.test[1][0], data.test[1][0])
    assert any(not torch.equal(data.train[0, i][0], data.train[1, i][0]) for i in range(5))


def test_the_seed_decides_the_augmentation(load):
    first, again, other = load("FakeData", seed=1), load("FakeData", seed=1), load("FakeData")
    images = [
        torch.stack([data.train[0, i][0] for i in range(9)]) for data in (first, again, other)
    ]
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


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
    transform = training_transform(7, padding=2, flip=True, auto_aug=False, cutout=False)
    torch.manual_seed(0)
    assert {bytes(transform(image).flatten().tolist()) for _ in range(1500)} == shifts


@pytest.mark.parametrize("name", ["CIFAR10", "MNIST", "Digits"])
def test_to_input_is_the_published_normalisation(load, name):
    data = load(name)
    images = torch.stack([data.test[i][0] for i in range(7)])
    before = images.clone()
    published = v1.Compose([v1.ToTensor(), v1.Normalize(data.mean, data.std)])
    arrays = images.permute(0, 2, 3, 1).numpy()
    expected = torch.stack([published(array) for array in arrays])
    assert torch.equal(data.to_input(images), expected)
    assert torch.equal(images, before)
    assert data.to_input(images.to("meta")).device.type == "meta"


def test_to_input_leaves_float_images_alone(load):
    images = torch.full((2, 3, 4, 4), 7.0)
    load("FakeData").to_input(images)
    assert torch.equal(images, torch.full((2, 3, 4, 4), 7.0))


@pytest.mark.parametrize("name", ["Digits", "FakeData"])
def test_measured_normalisation_centres_the_training_images(load, name):
    data = load(name)
    inputs = data.to_input(data.train.source.tensors[0]).double()
    assert inputs.mean((0, 2, 3)).abs().max() < 1e-5
    assert (inputs.std((0, 2, 3)) - 1).abs().max() < 1e-5


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
    moved = load("Digits", validation_fraction=0.2, split_seed=1).validation.tensors[0]
    assert not torch.equal(moved, held)
    assert data.mean == whole.mean and len(data.test) == len(whole.test)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_impossible_validation_fractions_are_refused(load, fraction):
    with pytest.raises(ValueError, match=f"validation fraction {fraction}: expected"):
        load("FakeData", validation_fraction=fraction)


def test_a_validation_set_too_small_for_the_classes_is_refused():
    dataset = TensorDataset(torch.zeros(30, 1, 2, 2), torch.arange(30) % 10)
    with pytest.raises(ValueError, match=r"fraction 0.05 of 30 samples does not leave every class"):
        split_off(dataset, 0.05, seed=-3)


def test_wrong_names_and_paths_are_named(tmp_path):
    with pytest.raises(ValueError, match=f"'cifar10': choose from {', '.join(DATASETS)}"):
        load_dataset("cifar10", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file: give the folder that holds MNIST"):
        load_dataset("MNIST", tmp_path / "file")


def test_the_home_folder_may_be_abbreviated(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_mnist_family(tmp_path / "data")
    assert len(load_dataset("MNIST", "~/data", download=False).train) == 43


@pytest.mark.skipif(not PACKAGE.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_packaged_fashion_mnist_is_normalised_by_its_own_statistics(tmp_path):
    data = load_dataset("FashionMNIST", tmp_path / "absent", download=False)
    images, labels = data.train.source.tensors
    assert (len(images), len(data.test)) == (60_000, 10_000)
    assert labels.bincount().tolist() == [6000] * 10
    values = images.double() / 255
    assert values.mean().item() == pytest.approx(data.mean[0], abs=5e-5)
    assert values.std().item() == pytest.approx(data.std[0], abs=5e-5)
