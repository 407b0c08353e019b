"""util.image.image_sets: files in the true formats, read by the code that reads the real ones."""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST

from tests.support.data_files import cifar_pixels, write_cifar, write_idx, write_mnist_family
from util.image import image_sets as dataset
from util.image.image_sets import (
    labelled,
    make_fake_data,
    read_cifar,
    read_digits,
    read_mnist_family,
)

NOWHERE = "http://127.0.0.1:1/nobody-listens/"
READ = {
    **{name: partial(read_cifar, name) for name in ("CIFAR10", "CIFAR100")},
    **{name: partial(read_mnist_family, name) for name in ("MNIST", "FashionMNIST")},
}


@pytest.fixture
def offline(monkeypatch):
    """No download succeeds and no system package is installed."""
    for cifar in (CIFAR10, CIFAR100):
        monkeypatch.setattr(cifar, "url", f"{NOWHERE}{cifar.filename}")
    for mnist in (MNIST, FashionMNIST):
        monkeypatch.setattr(mnist, "mirrors", [NOWHERE])
    monkeypatch.setattr(dataset, "PACKAGED_FOLDERS", {})
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize(
    "dataset_class, train_count, classes", [(CIFAR10, 35, 10), (CIFAR100, 7, 100)]
)
@pytest.mark.parametrize("form", ["folder", "archive"])
def test_cifar_is_read_unpacked_or_archived(
    tmp_path, monkeypatch, offline, dataset_class, train_count, classes, form
):
    archive = write_cifar(monkeypatch, dataset_class, tmp_path / "made")
    folder = tmp_path / "data"
    folder.mkdir()
    wanted = archive if form == "archive" else archive.parent / dataset_class.base_folder
    wanted.rename(folder / wanted.name)
    images = read_cifar(dataset_class.__name__, folder)
    assert images.class_names == tuple(f"class {k}" for k in range(classes))
    expected = torch.from_numpy(cifar_pixels(train_count + 7)).split([train_count, 7])
    for part, theirs in zip((images.train, images.test), expected, strict=True):
        pixels, labels = part.tensors
        assert torch.equal(pixels, theirs) and pixels.is_contiguous()
        assert labels.tolist() == [0, 1, 2, 3, 4, 5, classes - 1] * (len(theirs) // 7)
        assert labels.dtype == torch.int64


@pytest.mark.parametrize("file_name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_or_missing_cifar_file_is_named(tmp_path, monkeypatch, file_name):
    write_cifar(monkeypatch, CIFAR10, tmp_path)
    path = tmp_path / CIFAR10.base_folder / file_name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{file_name} is damaged"):
        read_cifar("CIFAR10", tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{file_name} is missing"):
        read_cifar("CIFAR10", tmp_path)


def test_a_damaged_cifar_archive_is_named_and_kept(tmp_path, monkeypatch, offline):
    archive = write_cifar(monkeypatch, CIFAR10, tmp_path / "made")
    content = archive.read_bytes()
    folder = tmp_path / "data"
    folder.mkdir()
    for k in range(1, 16):
        (folder / archive.name).write_bytes(content[: len(content) * k // 16])
        with pytest.raises(ValueError, match=r"cifar-10-python.tar.gz is damaged.*delete it"):
            read_cifar("CIFAR10", folder)
        assert [path.name for path in folder.iterdir()] == [archive.name]


def test_a_cache_takes_what_is_unpacked_and_is_read_from_then_on(tmp_path, monkeypatch, offline):
    archive = write_cifar(monkeypatch, CIFAR10, tmp_path / "made")
    folder, cache = tmp_path / "data", tmp_path / "cache"
    folder.mkdir()
    archive.rename(folder / archive.name)
    for _ in range(2):
        images = read_cifar("CIFAR10", folder, cache=cache)
        assert len(images.train) == 35
        assert [path.name for path in folder.iterdir()] == [archive.name]
        (folder / archive.name).write_bytes(b"no longer read")
    write_mnist_family(cache / "MNIST" / "raw")
    assert len(read_mnist_family("MNIST", folder, cache=cache).test) == 11


@pytest.mark.parametrize(
    ("name", "path", "said"),
    [
        ("CIFAR10", "cifar-10-batches-py", "does not hold cifar-10-batches-py .* but {made} does"),
        ("CIFAR10", "..", "does not hold .* but {made} does: give that"),
        ("CIFAR10", "cifar-10-python.tar.gz", "unpacked by itself, give its folder {made}"),
        ("FashionMNIST", "MNIST/raw", "MNIST/raw is a folder of MNIST, not of FashionMNIST"),
        ("MNIST", "MNIST", "does not hold MNIST/raw, but {made} does: give that"),
    ],
)
def test_a_path_near_the_data_names_its_folder(tmp_path, monkeypatch, offline, name, path, said):
    made = tmp_path / "made"
    write_cifar(monkeypatch, CIFAR10, made)
    write_mnist_family(made / "MNIST" / "raw")
    with pytest.raises(ValueError, match=said.format(made=made)):
        READ[name]((made / path).resolve())


@pytest.mark.parametrize("name", ["CIFAR10", "MNIST"])
def test_a_cache_that_takes_nothing_names_what_goes_there_and_the_flag(tmp_path, name):
    (tmp_path / "file").touch()
    said = f"{name} would be .* into .*/file, but .*/file is a file: .*--cache"
    with pytest.raises(ValueError, match=said):
        READ[name](tmp_path, cache=tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CIFAR10", "cifar-10-batches-py"),
        ("CIFAR100", "cifar-100-python.tar.gz"),
        ("MNIST", "train-images-idx3-ubyte"),
        ("FashionMNIST", "t10k-labels-idx1-ubyte"),
    ],
)
def test_missing_data_gives_one_sentence_and_leaves_nothing(tmp_path, offline, name, expected):
    folder = tmp_path / "absent" / "data"
    with pytest.raises(FileNotFoundError) as caught:
        READ[name](folder)
    message = str(caught.value)
    assert "\n" not in message
    assert all(
        part in message for part in (name, str(folder), expected, NOWHERE, "fetching it failed")
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "MNIST", "MNIST/raw"])
def test_idx_files_are_found_where_people_put_them(tmp_path, offline, suffix, below):
    parts = write_mnist_family(tmp_path / below, suffix=suffix)
    images = read_mnist_family("MNIST", tmp_path)
    for part, name in ((images.train, "train"), (images.test, "t10k")):
        pixels, labels = part.tensors
        assert np.array_equal(pixels[:, 0].numpy(), parts[name][0]) and pixels.shape[1] == 1
        assert np.array_equal(labels.numpy(), parts[name][1]) and labels.dtype == torch.int64
    assert images.class_names == tuple(MNIST.classes)


def test_idx_files_of_a_system_package_are_found(tmp_path, offline, monkeypatch):
    write_mnist_family(tmp_path / "package", suffix=".gz")
    monkeypatch.setattr(dataset, "PACKAGED_FOLDERS", {"FashionMNIST": tmp_path / "package"})
    images = read_mnist_family("FashionMNIST", tmp_path / "absent")
    assert len(images.train) == 43 and images.class_names[9] == "Ankle boot"
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is a file"):
        read_mnist_family("FashionMNIST", tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        read_mnist_family("MNIST", tmp_path / "absent")


@pytest.mark.parametrize(
    ("file_name", "values", "error", "said"),
    [
        ("t10k-labels-idx1-ubyte", None, FileNotFoundError, "incomplete: add t10k-labels-idx1"),
        ("train-labels-idx1-ubyte", np.arange(43) % 11, ValueError, "train part .* label 10, exp"),
        ("t10k-labels-idx1-ubyte", np.zeros(12), ValueError, "t10k .* 11 images but 12 labels"),
        ("t10k-images-idx3-ubyte", np.zeros((11, 28, 27)), ValueError, "28 x 27 pixels"),
        ("t10k-images-idx3-ubyte", np.zeros((11, 9, 9)), ValueError, r"\(28, 28\) .* \(9, 9\)"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path, offline, file_name, values, error, said
):
    write_mnist_family(tmp_path)
    (tmp_path / file_name).unlink()
    if values is not None:
        write_idx(tmp_path / file_name, values)
    with pytest.raises(error, match=said):
        read_mnist_family("MNIST", tmp_path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "here: there are no images"),
        ([0, -1], "label -1, expected 0 to 1"),
        ([2, 0], "label 2"),
    ],
)
def test_labels_that_cannot_be_are_refused(labels, said):
    pixels, labels = torch.zeros(len(labels), 1, 4, 4), torch.tensor(labels)
    with pytest.raises(ValueError, match=said):
        labelled(pixels, labels, num_classes=2, origin="here")


def test_digits_are_all_there_and_split_by_class():
    images = read_digits()
    digits = load_digits()
    (train, train_labels), (test, test_labels) = images.train.tensors, images.test.tensors
    assert train.shape == (1437, 1, 32, 32) and test.shape == (360, 1, 32, 32)
    counts = np.bincount(digits.target)
    assert torch.equal(train_labels.bincount() + test_labels.bincount(), torch.from_numpy(counts))
    assert np.abs(test_labels.bincount().numpy() - counts * 360 / 1797).max() < 1
    # Enlarging by an even factor keeps the mean but for rounding, so each image names its source.
    means = torch.cat([train, test]).double().mean((1, 2, 3)) * 16 / 255
    expected = torch.from_numpy(digits.images.mean((1, 2)))
    assert (means.sort().values - expected.sort().values).abs().max() < 0.05
    assert torch.equal(read_digits().train.tensors[0], train)


def test_fake_data_is_the_same_every_time():
    torch.manual_seed(1)
    first = make_fake_data()
    torch.manual_seed(2)
    second = make_fake_data()
    for one, other in ((first.train, second.train), (first.test, second.test)):
        assert all(map(torch.equal, one.tensors, other.tensors))
        assert one.tensors[0].shape[1:] == (3, 32, 32)
        assert set(one.tensors[1].tolist()) == set(range(10))
