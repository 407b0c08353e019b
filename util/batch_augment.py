"""Augmentation of whole batches on their device, distributed as that of single images.

The recipe is util.data's: random crop, flip, AutoAugment, Cutout, on uint8 images. What is drawn
for an image depends on (seed, epoch, index) only, never on its batch, the rank, the number of
workers or the device: a resumed run, or one on another number of processes, meets the same images.
The draws are others than the per-image pipeline's for the same seed; their distribution is the
same, and an image with the same draws comes out the same.

Draws are made on the host, in numpy, for all images at once; what belongs together is then applied
together, each operation of the policy at most once per step to the images that drew it.

Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from util.batch_operation import apply_operation_to_batch
from util.image_augment import CIFAR_POLICY, CUTOUT_SIZE, OPERATIONS
from util.sampler import mixed_seed

ROWS = len(CIFAR_POLICY)
# The policy as arrays (ROWS, 2): probability, number of the operation, level of each step.
OPERATION_NAMES = tuple(OPERATIONS)
PROBABILITIES = np.array([[p for p, _, _ in row] for row in CIFAR_POLICY])
OPERATION_NUMBERS = np.array(
    [[OPERATION_NAMES.index(name) for _, name, _ in row] for row in CIFAR_POLICY]
)
LEVELS = np.array([[level for _, _, level in row] for row in CIFAR_POLICY])
NO_OPERATION = -1


class KeyedImages(NamedTuple):
    """Images with the keys that decide their augmentation; of a single one, without B.

    images: (B, C, H, W) uint8; epochs, indices: (B,), on the host.
    """

    images: Tensor
    epochs: Tensor | int
    indices: Tensor | int

    def to(self, device: torch.device, *, non_blocking: bool = False) -> KeyedImages:
        """The images on `device`; the keys are needed where the draws are made."""
        return self._replace(images=self.images.to(device, non_blocking=non_blocking))


class KeyedDataset(Dataset):
    """Samples of `source` as they are, (KeyedImages, label); the key of an item: (epoch, index)."""

    def __init__(self, source: Dataset) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: tuple[int, int]) -> tuple[KeyedImages, Tensor]:
        epoch, index = key
        image, label = self.source[index]
        return KeyedImages(image, epoch, index), label


@dataclass(frozen=True)
class BatchAugmentation:
    """The random transform of a batch, KeyedImages -> (B, C, H, W) uint8 on the images' device.

    padding: pixels on each side before the random crop back to the image's size; flip: whether
    half of the images are mirrored; auto_aug: CIFAR_POLICY; cutout: one square per image.
    """

    seed: int
    padding: int
    flip: bool
    auto_aug: bool
    cutout: bool

    def __call__(self, batch: KeyedImages) -> Tensor:
        images = batch.images
        height, width = images.shape[-2:]
        draws = Draws.of(
            uniform_numbers(self.seed, batch.epochs.numpy(), batch.indices.numpy(), len(FIELDS)),
            padding=self.padding, height=height, width=width,
        )  # fmt: skip
        mirrored = draws.mirrored if self.flip else np.zeros_like(draws.mirrored)
        images = crop_and_flip(images, draws.top, draws.left, mirrored, padding=self.padding)
        if self.auto_aug:
            for step in (0, 1):
                images = apply_step(images, draws.operations[:, step], draws.levels[:, step],
                                    draws.signs[:, step])  # fmt: skip
        return erase(images, draws.row, draws.column) if self.cutout else images


FIELDS = ("top", "left", "flip", "policy", "chance 1", "chance 2", "sign 1", "sign 2", "row",
          "column")  # fmt: skip


class Draws(NamedTuple):
    """What is random about B images, all arrays (B,) but where (B, 2) is said: the two steps."""

    top: np.ndarray  # corner of the crop in the padded image, 0 .. 2 padding
    left: np.ndarray
    mirrored: np.ndarray  # bool
    operations: np.ndarray  # (B, 2) numbers in OPERATION_NAMES, or NO_OPERATION
    levels: np.ndarray  # (B, 2)
    signs: np.ndarray  # (B, 2), -1 or 1
    row: np.ndarray  # centre of the square that is erased
    column: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray, *, padding: int, height: int, width: int) -> Draws:
        """From numbers (len(FIELDS), B), uniform in [0, 1)."""
        top, left, flip, policy, *steps, row, column = numbers
        chances, signs = np.stack(steps[:2], axis=1), np.stack(steps[2:], axis=1)
        policy_row = (policy * ROWS).astype(int)
        taken = chances < PROBABILITIES[policy_row]
        return cls(
            top=(top * (2 * padding + 1)).astype(int),
            left=(left * (2 * padding + 1)).astype(int),
            mirrored=flip < 0.5,
            operations=np.where(taken, OPERATION_NUMBERS[policy_row], NO_OPERATION),
            levels=LEVELS[policy_row],
            signs=np.where(signs < 0.5, -1, 1),
            row=(row * height).astype(int),
            column=(column * width).astype(int),
        )


def uniform_numbers(seed: int, epochs: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """(count, B) float64, uniform in [0, 1): `count` numbers for each (seed, epoch, index).

    The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014): its state advances by a constant, and each number is a hash of the
    state, so that all numbers of all images are computed at once.
    """
    golden = np.uint64(0x9E3779B97F4A7C15)
    state = np.full(len(indices), mixed_seed("batch augmentation", seed), dtype=np.uint64)
    for part in (epochs, indices):
        state = _hashed(state + golden * part.astype(np.uint64))
    states = state + golden * np.arange(1, count + 1, dtype=np.uint64)[:, None]
    return (_hashed(states) >> np.uint64(11)) * 2.0**-53


def _hashed(values: np.ndarray) -> np.ndarray:
    """SplitMix64's mixing of 64 bits (uint64 -> uint64, one to one)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def crop_and_flip(
    images: Tensor, top: np.ndarray, left: np.ndarray, mirrored: np.ndarray, *, padding: int
) -> Tensor:
    """Pad with 0, take the window of the old size with its corner at (top, left), mirror some."""
    height, width = images.shape[-2:]
    columns = np.where(mirrored[:, None], np.arange(width)[::-1], np.arange(width))
    rows = top[:, None] + np.arange(height)
    window = rows[:, :, None] * (width + 2 * padding) + (left[:, None] + columns)[:, None]
    window = torch.from_numpy(window).to(images.device, non_blocking=True).flatten(1).unsqueeze(1)
    pixels = pad(images, [padding] * 4).flatten(2)
    return pixels.gather(2, window.expand(-1, pixels.shape[1], -1)).view_as(images)


def apply_step(
    images: Tensor, operations: np.ndarray, levels: np.ndarray, signs: np.ndarray
) -> Tensor:
    """Each image with its operation; arrays (B,), as in Draws. Images may be changed in place."""
    for number in np.unique(operations[operations != NO_OPERATION]):
        chosen = np.flatnonzero(operations == number)
        place, level, sign = (
            torch.from_numpy(values).to(images.device, non_blocking=True)
            for values in (chosen, levels[chosen], signs[chosen])
        )
        changed = apply_operation_to_batch(images[place], OPERATION_NAMES[number], level, sign)
        images.index_copy_(0, place, changed)
    return images


def erase(images: Tensor, row: np.ndarray, column: np.ndarray) -> Tensor:
    """util.image_augment.Cutout with the squares' centres given. Changes the images in place."""
    inside = []
    for centre, side in ((row, images.shape[-2]), (column, images.shape[-1])):
        offset = np.arange(side) - (centre[:, None] - CUTOUT_SIZE // 2)
        inside.append(torch.from_numpy((offset >= 0) & (offset < CUTOUT_SIZE)).to(images.device))
    rows, columns = inside
    return images.masked_fill_((rows[:, :, None] & columns[:, None])[:, None], 0)
