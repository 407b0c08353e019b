"""Labelled image files in class folders, read one by one: ImageNet's layout.

    FOLDER/train/CLASS/*.JPEG     FOLDER/val/CLASS/*.JPEG

Two readers decode to the same pixels (util.image.picture): `pil` hands on PIL images, on which
torchvision's transforms are those of the published run; `torchvision` decodes into uint8 tensors
(C, H, W), whose resizing is faster and rounds differently (by two grey levels at most).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from util.image.class_folders import find_in_class_folders, refuse_different_classes
from util.image.picture import UNREADABLE, read_picture, read_picture_tensor, reason_of

Decoded = Image.Image | Tensor
READERS: dict[str, Callable[[Path], Decoded]] = {
    "pil": read_picture,
    "torchvision": read_picture_tensor,
}


@dataclass(frozen=True, eq=False)
class ImageFiles(Dataset):
    """Image files below `root` with their labels; an item is (what `transform` makes of it, label).

    names: paths relative to root, in bytes; labels: their class indices. Both are arrays: a list
    of a million strings would be copied into every worker by reference counting.
    reader: one of READERS.
    """

    root: Path
    names: np.ndarray
    labels: np.ndarray
    reader: str
    transform: Callable[[Decoded], Any] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        try:
            image = self.read(index)
        except UNREADABLE as error:
            raise ValueError(
                f"{self.path(index)} cannot be read as an image ({reason_of(error)}): replace the "
                "file, or delete it; --check_data lists every such file"
            ) from error
        if self.transform is not None:
            image = self.transform(image)
        return image, int(self.labels[index])

    def read(self, index: int) -> Decoded:
        """The image of an index, without the transform.

        Raises: one of util.image.picture.UNREADABLE.
        """
        return READERS[self.reader](self.path(index))

    def path(self, index: int) -> Path:
        return self.root / os.fsdecode(self.names[index])

    def part(self, indices: Sequence[int], transform: Callable | None = None) -> ImageFiles:
        """The images of some indices, with a transform of their own."""
        names, labels = self.names[indices], self.labels[indices]
        return replace(self, names=names, labels=labels, transform=transform)


def to_uint8(image: Decoded) -> Tensor:
    """(C, H, W) uint8, contiguous, of what either reader and the transforms after it give."""
    return (image if isinstance(image, Tensor) else pil_to_tensor(image)).contiguous()


def find_image_files(root: Path, *, reader: str) -> tuple[ImageFiles, tuple[str, ...]]:
    """The images of every class folder in `root`, sorted, and the folders' names.

    Raises: FileNotFoundError if `root` is not there; what `find_in_class_folders` raises.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not there: expected FOLDER/train/CLASS/*.JPEG and FOLDER/val/CLASS/*.JPEG, "
            "FOLDER being the --data_path; pictures that fit into memory may also lie in train and "
            "test, or in one tree: experiment/cifar/main.py --dataset Folder"
        )
    names, labels, class_names = find_in_class_folders(root)
    return ImageFiles(root, names, labels, reader), class_names


def find_two_parts(
    folder: Path, train: str, test: str, *, reader: str = "pil"
) -> tuple[ImageFiles, ImageFiles, tuple[str, ...]]:
    """The images of two parts of a data set, by the names of their folders, and their classes.

    Raises: ValueError if both do not have the same classes; what `find_image_files` raises.
    """
    train_files, classes = find_image_files(folder / train, reader=reader)
    test_files, test_classes = find_image_files(folder / test, reader=reader)
    refuse_different_classes(folder, {train: classes, test: test_classes})
    return train_files, test_files, classes
