"""The samples of an event data set, read from frames on the disk.

Shapes: T frames per sample, H x W pixels; the two channels are OFF and ON event counts.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import DatasetFolder

from experiment.dvs.augment import resize
from util.sampler import mixed_seed

IMAGE_SIZE = 48  # pixels, height = width, that the sensor's pixels are resized to
REPAIR = "delete it, and python experiment/dvs/process.py makes it anew"


@dataclass(frozen=True, eq=False)
class EventFrames(Dataset):
    """Some samples of a spikingjelly data set: (frames (T, 2, 48, 48) float32, label).

    `indices` are those of the samples. `shuffle` puts the T frames in a random order, another one
    for each sample and always the same.
    """

    source: DatasetFolder
    indices: Sequence[int]
    T: int
    shuffle: bool = False

    @property
    def labels(self) -> list[int]:
        """The label of every sample, known without reading it."""
        return [self.source.targets[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number = self.indices[index]
        path = self.source.samples[number][0]
        try:
            counts, label = self.source[number]
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is damaged ({error}): {REPAIR}") from error
        if counts.ndim != 4 or counts.shape[:2] != (self.T, 2):
            raise ValueError(
                f"{path} holds an array of shape {counts.shape}, expected {self.T} frames of 2 "
                f"channels: {REPAIR}"
            )
        frames = resize(torch.from_numpy(counts), IMAGE_SIZE)
        if self.shuffle:
            generator = torch.Generator().manual_seed(mixed_seed("frame order", number))
            frames = frames[torch.randperm(self.T, generator=generator)]
        return frames, label
