"""The samples of an event data set, read from frames on the disk.

Shapes: T frames per sample, H x W pixels of the sensor; the two channels are OFF and ON event
counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiment.dvs.augment import resize
from experiment.dvs.recording.events import checked_frames, in_pixels
from experiment.dvs.recording.recordings import DAMAGE, files_in, open_arrays
from util.process.sampler import mixed_seed

IMAGE_SIZE = 48  # pixels, height = width, that the sensor's pixels are resized to
REPAIR = "delete it, and python experiment/dvs/process.py makes it anew"

Sample = tuple[str, int]  # file of frames and label


def list_samples(folder: Path, classes: Iterable[str]) -> list[Sample]:
    """The samples of a folder that is laid out as by spikingjelly, by class and name.

    It has a folder for each of `classes`, which are in the order of their labels; whatever else
    lies there is no class and no sample.
    """
    return [
        (str(path), label)
        for label, name in enumerate(classes)
        for path in files_in(folder / name, ".npz")
    ]


@dataclass(frozen=True, eq=False)
class EventFrames(Dataset):
    """Some samples of a data set: (frames (T, 2, 48, 48) float32, label).

    `indices` are those of the samples, `sensor_size` is (H, W). `shuffle` puts the T frames in a
    random order, another one for each sample and always the same.
    """

    samples: Sequence[Sample]
    indices: Sequence[int]
    T: int
    sensor_size: tuple[int, int]
    shuffle: bool = False

    @property
    def labels(self) -> list[int]:
        """The label of every sample, known without reading it."""
        return [self.samples[index][1] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        number = self.indices[index]
        path, label = self.samples[number]
        try:
            counts = self.read(index)
        except DAMAGE as error:
            raise ValueError(f"{path} is damaged ({error}): {REPAIR}") from error
        frames = resize(counts, IMAGE_SIZE)
        if self.shuffle:
            generator = torch.Generator().manual_seed(mixed_seed("frame order", number))
            frames = frames[torch.randperm(self.T, generator=generator)]
        return frames, label

    def path(self, index: int) -> str:
        return self.samples[self.indices[index]][0]

    def read(self, index: int) -> Tensor:
        """A sample as the sensor saw it, (T, 2, H, W) float32.

        Raises: one of DAMAGE, or OSError.
        """
        with open_arrays(self.path(index)) as content:
            counts = checked_frames(content["frames"])
        if len(counts) != self.T:
            raise ValueError(f"{len(counts)} frames, expected {self.T}")
        if counts.shape[2:] != self.sensor_size:
            found, wanted = in_pixels(counts.shape[2:]), in_pixels(self.sensor_size)
            raise ValueError(f"frames of {found}, expected {wanted}")
        return torch.from_numpy(counts.astype(np.float32))

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample's file; None where nothing is."""
        try:
            self.read(index)
        except (*DAMAGE, MemoryError, OSError) as error:
            return f"{self.path(index)}: {error}"
        return None
