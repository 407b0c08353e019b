"""An event data set as training takes it, and a picture of it.

Shapes: B batch, T frames per sample, H x W pixels; the two channels are OFF and ON event counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from experiment.dvs.frames import IMAGE_SIZE, EventFrames
from util.figure import drawing, label_of
from util.process.loader import AugmentedDataset

GAP = 2  # pixels between frames of the picture
FULL_COLOR = 99.5  # percentile of a sample's counts that is drawn in full colour


@dataclass(frozen=True, eq=False)
class EventData:
    """An event data set ready for util.process.loader.make_loader, and what its batches need.

    `train` is keyed by (epoch, index), `validation` and `test` by index; all give (frames
    (T, 2, 48, 48) float32, label).
    """

    name: str
    split: str  # one of experiment.dvs.recording.source.SPLITS
    T: int
    train: AugmentedDataset
    validation: EventFrames | None  # held out of the training set, not augmented
    test: EventFrames  # not augmented
    class_names: tuple[str, ...]
    sensor_size: tuple[int, int]  # height and width of the recordings, in pixels
    flip: bool  # whether training samples are mirrored
    notes: tuple[str, ...] = ()  # what was done to the training set beside, in a line each
    channels: int = 2
    image_size: int = IMAGE_SIZE

    def to_input(self, frames: Tensor) -> Tensor:
        """(B, T, 2, H, W) -> (T, B, 2, H, W), as the networks take it, on the batch's device."""
        return frames.transpose(0, 1).contiguous()

    def draw_into(self, folder: Path) -> None:
        """Write event_frames.png, the first test sample of each class, into a folder."""
        draw_event_frames(self, folder / "event_frames.png")


def draw_event_frames(data: EventData, path: Path) -> None:
    """Write a PNG file: a row per class with its first test sample, as the network gets it.

    A column is a time step. ON events are red, OFF events blue, pixels with both black, on white.
    The file appears whole.
    """
    labels = data.test.labels
    drawn = sorted(set(labels))
    rows = [colored(data.test[labels.index(label)][0].numpy()) for label in drawn]
    mosaic = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    size = data.image_size + GAP
    names = [label_of(data.class_names[label]) for label in drawn]
    with drawing(path, 1.2 + data.T, 0.8 + len(drawn)) as figure:
        axes = figure.subplots()
        axes.imshow(mosaic, interpolation="nearest")
        axes.set_xticks(size * np.arange(data.T) + size / 2, [str(t + 1) for t in range(data.T)])
        axes.set_yticks(size * np.arange(len(drawn)) + size / 2, names)
        axes.set(xlabel="time step", title=f"{data.name}\nON red, OFF blue")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)


def colored(frames: np.ndarray) -> np.ndarray:
    """Counts (T, 2, H, W), OFF and ON -> colours in 0..1, (T, H + GAP, W + GAP, 3), framed gray."""
    scale = np.percentile(frames[frames > 0], FULL_COLOR) if frames.any() else 1.0
    off, on = np.clip(frames / scale, 0, 1).transpose(1, 0, 2, 3)
    colors = np.stack([1 - off, 1 - np.maximum(on, off), 1 - on], axis=-1)
    margins = [(0, 0), (GAP // 2, GAP - GAP // 2), (GAP // 2, GAP - GAP // 2), (0, 0)]
    return np.pad(colors, margins, constant_values=0.8)
