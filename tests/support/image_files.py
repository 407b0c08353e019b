"""JPEG files in class folders: a tiny ImageNet, and pictures of one's own."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image_folder(
    root: Path, *, classes: int = 20, train: int = 2, val: int = 1, side: int = 40
) -> Path:
    """root/{train,val}/class_NN/NN.JPEG, of odd sizes; each class has a colour of its own."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        write_classes(root / part, generator, classes=classes, count=count, side=side)
    return root


def write_tree(root: Path, *, classes: int = 2, count: int = 10, side: int = 40) -> Path:
    """root/class_NN/NN.JPEG, likewise."""
    write_classes(root, np.random.default_rng(0), classes=classes, count=count, side=side)
    return root


def write_classes(
    root: Path, generator: np.random.Generator, *, classes: int, count: int, side: int
) -> None:
    for label in range(classes):
        folder = root / f"class_{label:02}"
        folder.mkdir(parents=True)
        colour = generator.integers(0, 200, 3)
        for number in range(count):
            shape = (side + 3 * number, side + label, 3)
            pixels = colour + generator.integers(0, 56, shape)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.JPEG")
