"""Pictures to classify, brought to the form of the test set.

They go the way of ImageNet's test set (`--reader pil`): resized, cut, normalised; one that has the
test set's size already, as all of CIFAR, is only normalised.

Shapes: C channels, H x W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from util.picture import read_picture


def read_image(path: Path, description: dict[str, Any], channels: int) -> Tensor:
    """The centre of an image, resized and normalised: (1, C, H, W) float32.

    Raises: one of util.picture.UNREADABLE.
    """
    modes = {1: "L", 3: "RGB"}
    if channels not in modes:
        raise ValueError(f"the network takes {channels} channels: expected 1 (gray) or 3 (RGB)")
    side = description["image_size"]
    pixels = read_picture(path).convert(modes[channels])
    pixels = transforms.resize(pixels, [description["resize"]], antialias=True)
    pixels = transforms.pil_to_tensor(transforms.center_crop(pixels, [side, side]))
    mean, std = (torch.tensor(description[name]).view(-1, 1, 1) for name in ("mean", "std"))
    return ((pixels.float() / 255 - mean) / std)[None]
