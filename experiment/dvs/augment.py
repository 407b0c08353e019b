"""Augmentation of event frames, the same for all frames of a sample.

Source: Li et al., "Neuromorphic Data Augmentation for Training Spiking Neural Networks" (ECCV
2022), in the form that the published runs used: a horizontal flip with probability 1/2, then
exactly one of roll, rotation and cutout. No normalisation.

Shapes: T frames, H x W pixels; samples are (T, 2, H, W) float32, event counts OFF and ON.
Randomness comes from torch's global CPU generator, as in torchvision.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2

from util.image_augment import Cutout

ROLL = 5  # pixels at most, on each axis
ROTATION = 30  # degrees at most, either way
CUTOUT = 16  # pixels of the square's side


class RandomRoll:
    """Shift by -`most` to `most` whole pixels on each axis, around the edges."""

    def __init__(self, most: int) -> None:
        self.most = most

    def __call__(self, frames: Tensor) -> Tensor:
        shifts = torch.randint(-self.most, self.most + 1, (2,)).tolist()
        return torch.roll(frames, shifts, dims=(-2, -1))


def training_transform(*, flip: bool) -> v2.Compose:
    """The random transform of one sample; `flip` if mirrored samples keep their class.

    The rotation takes the nearest pixel and fills with 0, torchvision's defaults.
    """
    one_of = v2.RandomChoice([RandomRoll(ROLL), v2.RandomRotation(ROTATION), Cutout(CUTOUT)])
    return v2.Compose([v2.RandomHorizontalFlip(), one_of] if flip else [one_of])


def resize(frames: Tensor, image_size: int) -> Tensor:
    """(T, 2, H, W) float32 -> (T, 2, image_size, image_size), bilinear with antialiasing.

    Antialiasing is asked for by name: torchvision's default changed between versions, and without
    it the frames' standard deviation is two and a half times as large.
    """
    return v2.functional.resize(frames, [image_size, image_size], antialias=True)
