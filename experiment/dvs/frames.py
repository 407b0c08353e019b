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
from torchvision.datasets import DatasetFolder

from experiment.dvs.arrays import open_arrays, refuse_all_but_whole
from experiment.dvs.augment import resize
from experiment.dvs.recordings import DAMAGE, files_in
from util.sampler import mixed_seed

IMAGE_SIZE = 48  # pixels, height = width, that the sensor's pixels are resized to
REPAIR = "delete it, and python experiment/dvs/process.py makes it anew"


class FrameFolder(DatasetFolder):
    """Counts (T, 2, H, W) in folders of the classes named, one .npz file per sample.

    It is laid out as by spikingjelly; whatever else lies there is no class and no sample. `classes`
    are in the order of their labels.
    """

    def __init__(self, root: Path, classes: Iterable[str]) -> None:
        self._known = list(classes)
        super().__init__(root, load_counts)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        """The classes and their labels."""
        return self._known, {name: label for label, name in enumerate(self._known)}

    @staticmethod
    def make_dataset(
        directory: str | Path, class_to_idx: dict[str, int], **options: object
    ) -> list[tuple[str, int]]:
        """(path, label) of every sample, by class and name."""
        return [
            (str(path), label)
            for name, label in class_to_idx.items()
            for path in files_in(Path(directory) / name, ".npz")
        ]


@dataclass(frozen=True, eq=False)
class EventFrames(Dataset):
    """Some samples of a data set: (frames (T, 2, 48, 48) float32, label).

    `indices` are those of the samples, `sensor_size` is (H, W). `shuffle` puts the T frames in a
    random order, another one for each sample and always the same.
    """

    source: FrameFolder
    indices: Sequence[int]
    T: int
    sensor_size: tuple[int, int]
    shuffle: bool = False

    @property
    def labels(self) -> list[int]:
        """The label of every sample, known without reading it."""
        return [self.source.targets[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        try:
            counts = self.read(index)
        except DAMAGE as error:
            raise ValueError(f"{self.path(index)} is damaged ({error}): {REPAIR}") from error
        number = self.indices[index]
        frames = resize(counts, IMAGE_SIZE)
        if self.shuffle:
            generator = torch.Generator().manual_seed(mixed_seed("frame order", number))
            frames = frames[torch.randperm(self.T, generator=generator)]
        return frames, self.source.targets[number]

    def path(self, index: int) -> str:
        """The file of a sample."""
        return self.source.samples[self.indices[index]][0]

    def read(self, index: int) -> Tensor:
        """A sample as the sensor saw it, (T, 2, H, W) float32.

        Raises: one of DAMAGE, or OSError.
        """
        return checked_counts(load_counts(self.path(index)), self.T, self.sensor_size)


def load_counts(path: str | Path) -> np.ndarray:
    """The array `frames` of a .npz file. Raises: one of DAMAGE, or OSError."""
    with open_arrays(path) as content:
        return content["frames"]


def checked_counts(counts: np.ndarray, T: int, sensor_size: tuple[int, int] | None) -> Tensor:
    """Counts (T, 2, H, W) as float32.

    Raises: ValueError for an array that holds something else, or frames that are not those of the
    sensor (of unknown size: any square one).
    """
    if counts.ndim != 4 or counts.shape[:2] != (T, 2) or counts.size == 0:
        raise ValueError(f"frames of shape {counts.shape}, expected {T} of 2 channels")
    found = counts.shape[2:]
    if found != (sensor_size or found[:1] * 2):
        wanted = "square ones" if sensor_size is None else "{} x {}".format(*sensor_size)
        raise ValueError("frames of {} x {} pixels, expected {}".format(*found, wanted))
    refuse_all_but_whole(counts)
    return torch.from_numpy(counts.astype(np.float32))
