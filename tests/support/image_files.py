"""A tiny ImageNet: JPEG files in class folders."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image_folder(
    root: Path, *, classes: int = 20, train: int = 2, val: int = 1, side: int = 40
) -> Path:
    """root/{train,val}/class_NN/NN.JPEG, of odd sizes; each class has a colour of its own."""
    generator = np.random.default_rng(0)
    for part, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / part / f"class_{label:02}"
            folder.mkdir(parents=True)
            colour = generator.integers(0, 200, 3)
            for number in range(count):
                shape = (side + 3 * number, side + label, 3)
                pixels = colour + generator.integers(0, 56, shape)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.JPEG")
    return root
