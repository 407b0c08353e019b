"""Small data sets in the true file formats, for tests of what reads them."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10

MNIST_PARTS = {"train": 43, "t10k": 11}  # samples


def write_idx(path: Path, values: np.ndarray) -> None:
    """An IDX file of unsigned bytes; through gzip if the name says so."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wb") as file:
        file.write(header + values.astype(np.uint8).tobytes())


def write_mnist_family(
    folder: Path, *, suffix: str = "", side: int = 28
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four files of an MNIST-like set; returns (images, labels) of each part."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    parts = {}
    for part, count in MNIST_PARTS.items():
        images = generator.integers(0, 256, (count, side, side), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
        parts[part] = (images, labels)
    return parts


def cifar_pixels(count: int) -> np.ndarray:
    """What `write_cifar` writes: the first images, (count, 3, 32, 32)."""
    return np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def write_cifar(monkeypatch, dataset_class: type[CIFAR10], folder: Path) -> Path:
    """A small CIFAR folder and its archive, both in `folder`; returns the archive's path.

    Each file holds seven images. torchvision is told the md5 sums of these files in place of the
    published ones.
    """
    batches = folder / dataset_class.base_folder
    batches.mkdir(parents=True)
    fine = dataset_class.__name__ == "CIFAR100"
    count, label_key = (100, "fine_labels") if fine else (10, "labels")
    names = [name for name, _ in [*dataset_class.train_list, *dataset_class.test_list]]
    pixels = cifar_pixels(7 * len(names)).reshape(len(names), 7, 3072)
    for name, data in zip(names, pixels, strict=True):
        _dump(batches / name, {"data": data, label_key: [*range(6), count - 1]})
    meta = dataset_class.meta
    _dump(batches / meta["filename"], {meta["key"]: [f"class {k}" for k in range(count)]})

    archive = folder / dataset_class.filename
    with tarfile.open(archive, "w:gz") as file:
        file.add(batches, arcname=dataset_class.base_folder)
    for listing in ("train_list", "test_list"):
        entries = [[name, _md5(batches / name)] for name, _ in getattr(dataset_class, listing)]
        monkeypatch.setattr(dataset_class, listing, entries)
    changed = {**meta, "md5": _md5(batches / meta["filename"])}
    monkeypatch.setattr(dataset_class, "meta", changed)
    monkeypatch.setattr(dataset_class, "tgz_md5", _md5(archive))
    return archive


def _dump(path: Path, content: dict) -> None:
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=2)


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()
