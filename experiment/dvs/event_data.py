"""An event data set as training takes it.

Shapes: B batch, T frames per sample, H x W pixels; the two channels are OFF and ON event counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from experiment.dvs.frames import IMAGE_SIZE, EventFrames
from util.loader import AugmentedDataset


@dataclass(frozen=True, eq=False)
class EventData:
    """An event data set ready for util.loader.make_loader, and what its batches need.

    `train` is keyed by (epoch, index), `validation` and `test` by index; all give (frames
    (T, 2, 48, 48) float32, label).
    """

    name: str
    split: str  # one of experiment.dvs.source.SPLITS
    T: int
    train: AugmentedDataset
    validation: EventFrames | None  # held out of the training set, not augmented
    test: EventFrames  # not augmented
    class_names: tuple[str, ...]
    sensor_size: tuple[int, int]  # height and width of the recordings, in pixels
    channels: int = 2
    image_size: int = IMAGE_SIZE

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def to_input(self, frames: Tensor) -> Tensor:
        """(B, T, 2, H, W) -> (T, B, 2, H, W), as the networks take it, on the batch's device."""
        return frames.transpose(0, 1).contiguous()
