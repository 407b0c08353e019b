"""Labelled image files in class folders, read one by one: ImageNet's layout.

    FOLDER/train/CLASS/*.JPEG     FOLDER/val/CLASS/*.JPEG

Two readers decode to the same pixels: `pil` hands on PIL images, on which torchvision's transforms
are those of the published run; `torchvision` decodes with libjpeg-turbo into uint8 tensors
(C, H, W), whose resizing is faster and rounds differently (by two grey levels at most).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms.v2.functional import pil_to_tensor

Decoded = Image.Image | Tensor


def read_with_pil(path: str) -> Image.Image:
    """The file as an RGB image."""
    with Image.open(path) as image:
        return image.convert("RGB")


def read_with_torchvision(path: str) -> Tensor:
    """The file as uint8 (3, H, W)."""
    return decode_image(read_file(path), mode=ImageReadMode.RGB)


READERS: dict[str, Callable[[str], Decoded]] = {
    "pil": read_with_pil,
    "torchvision": read_with_torchvision,
}
# What a decoder raises for a file that is damaged, truncated, of another kind or gone.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError)


class ImageFiles(Dataset):
    """Image files below `root` with their labels; an item is (what `transform` makes of it, label).

    names: paths relative to root, in bytes; labels: their class indices. Both are arrays: a list
    of a million strings would be copied into every worker by reference counting.
    """

    def __init__(
        self,
        root: Path,
        names: np.ndarray,
        labels: np.ndarray,
        *,
        reader: str,
        transform: Callable[[Decoded], Any] | None = None,
    ) -> None:
        self.root = root
        self.names = names
        self.labels = labels
        self.reader = reader
        self.transform = transform

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.path(index)
        try:
            image = READERS[self.reader](str(path))
        except DECODING_ERRORS as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(
                f"{path} cannot be read as an image ({reason}): replace the file, or delete it"
            ) from error
        if self.transform is not None:
            image = self.transform(image)
        return image, int(self.labels[index])

    def path(self, index: int) -> Path:
        """Where the image of an index lies."""
        return self.root / os.fsdecode(self.names[index])

    def part(self, indices: Sequence[int], transform: Callable | None = None) -> ImageFiles:
        """The images of some indices, with a transform of their own."""
        names, labels = self.names[indices], self.labels[indices]
        return ImageFiles(self.root, names, labels, reader=self.reader, transform=transform)


def to_uint8(image: Decoded) -> Tensor:
    """(C, H, W) uint8, contiguous, of what either reader and the transforms after it give."""
    return (image if isinstance(image, Tensor) else pil_to_tensor(image)).contiguous()


def find_image_files(root: Path, *, reader: str) -> tuple[ImageFiles, tuple[str, ...]]:
    """The images of every class folder in `root`, sorted, and the folders' names.

    Raises: FileNotFoundError if `root` is not there, has no class folders, or one without images.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root} is not there: expected FOLDER/train/CLASS/*.JPEG and FOLDER/val/CLASS/*.JPEG, "
            "FOLDER being the --data_path"
        )
    try:
        folder = ImageFolder(root)
    except FileNotFoundError as error:
        loose = sum(path.is_file() for path in root.iterdir())
        found = f"{loose} files and no folders" if loose else " ".join(str(error).split())
        raise FileNotFoundError(
            f"{root} has no image files in class folders ({found}): expected "
            f"{root}/CLASS/*.JPEG; sort the images into a folder for each class"
        ) from error
    names = np.array([os.fsencode(Path(path).relative_to(root)) for path, _ in folder.samples])
    labels = np.array(folder.targets)
    return ImageFiles(root, names, labels, reader=reader), tuple(folder.classes)
