"""Pictures to classify, brought to the form of the test set.

They go the way of ImageNet's test set (`--reader pil`): resized, cut, normalised; one that has the
test set's size already, as all of CIFAR, is only normalised.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

# What Pillow raises for files that are missing, damaged or of another kind; it calls a broken PNG
# a SyntaxError.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def read_image(path: Path, description: dict[str, Any], channels: int) -> Tensor:
    """The centre of an image, resized and normalised: (1, C, H, W) float32.

    Raises: one of UNREADABLE.
    """
    modes = {1: "L", 3: "RGB"}
    if channels not in modes:
        raise ValueError(f"the network takes {channels} channels: expected 1 (gray) or 3 (RGB)")
    side = description["image_size"]
    with Image.open(path) as image:
        pixels = with_8_bits(image).convert(modes[channels])
    pixels = transforms.resize(pixels, [description["resize"]], antialias=True)
    pixels = transforms.pil_to_tensor(transforms.center_crop(pixels, [side, side]))
    mean, std = (torch.tensor(description[name]).view(-1, 1, 1) for name in ("mean", "std"))
    return ((pixels.float() / 255 - mean) / std)[None]


def with_8_bits(image: Image.Image) -> Image.Image:
    """The image, 16 bits of gray as their upper 8: Pillow would cut off what is above 255.

    Raises: ValueError for pixels whose range the file does not say.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(
            f"pixels of mode {image.mode}, whose range is unknown: save it with 8 bits"
        )
    return image


def reason_of(error: BaseException) -> str:
    """Why a picture was skipped, without its name."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image of a known kind, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
