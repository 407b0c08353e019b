"""Files to classify, brought to the form of the test set: images, and recordings of event cameras.

Images go the way of ImageNet's test set (`--reader pil`): resized, cut, normalised; one that has
the test set's size already, as all of CIFAR, is only normalised. AEDAT recordings are integrated
and resized as those of CIFAR10-DVS.

Shapes: T time steps, C channels, H x W pixels.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from experiment.dvs.augment import resize
from experiment.dvs.events import SIDE, decode_aedat
from experiment.dvs.prepare import integrate

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
EVENT_SUFFIXES = (".aedat", ".npz")

# What Pillow, numpy and our own readers raise for files that are missing, damaged or of another
# kind; Pillow calls a broken PNG a SyntaxError.
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip


def read_image(path: Path, description: dict[str, Any], channels: int) -> Tensor:
    """The centre of an image, resized and normalised: (1, C, H, W) float32.

    Raises: one of UNREADABLE.
    """
    if path.suffix.lower() in EVENT_SUFFIXES:
        raise ValueError("a recording of events, but the network was trained on images")
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


def read_events(path: Path, description: dict[str, Any], steps: int) -> Tensor:
    """T frames (T, 2, H, W) float32 of a recording: AEDAT 2.0, or a .npz file with `frames`.

    Raises: one of UNREADABLE.
    """
    if path.suffix.lower() == ".npz":
        content = np.load(path)
        if not isinstance(content, NpzFile):
            raise ValueError("a single array, expected a .npz archive with an array 'frames'")
        with content:
            if "frames" not in content:
                raise ValueError("no array 'frames' in it")
            counts = content["frames"]
        if counts.ndim != 4 or counts.shape[:2] != (steps, 2) or counts.size == 0:
            raise ValueError(f"frames of shape {counts.shape}, expected {steps} of 2 channels")
    else:
        counts = integrate(decode_aedat(path.read_bytes()), steps, height=SIDE, width=SIDE)
    return resize(torch.from_numpy(counts.astype(np.float32)), description["image_size"])


def reason_of(error: BaseException) -> str:
    """Why a file was skipped, without its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image of a known kind, or damaged"
    return " ".join(str(error).split()) or type(error).__name__
