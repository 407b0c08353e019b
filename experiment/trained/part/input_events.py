"""Recordings of event cameras to classify, integrated and resized as those of CIFAR10-DVS.

Shapes: T time steps, H x W pixels of the sensor.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiment.dvs.augment import resize
from experiment.dvs.integrate import frames_of
from experiment.dvs.recording.aedat import SIDE
from experiment.dvs.recording.events import Events, Reading, in_pixels
from experiment.dvs.recording.recordings import DAMAGE, WANTED, read_recording
from util.image.picture import SUFFIXES as IMAGE_SUFFIXES


def read_events(
    path: Path,
    description: dict[str, Any],
    steps: int,
    report: Callable[[str], None] = lambda line: None,
) -> Tensor:
    """T frames (T, 2, image_size, image_size) float32 of a recording, as WANTED says.

    `description["sensor_size"]` is (H, W) of the sensor that the network was trained on; without
    it, as in exports of earlier versions, any square frames are taken, and events of 128 x 128.
    `report` is given a line if events were left out. Raises: ValueError for a file that is damaged
    or of another kind, OSError.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise ValueError(f"a picture, but the network was trained on events: {WANTED}")
    sensor_size = tuple(description.get("sensor_size", ())) or None
    try:
        reading = read_recording(path)
        if sensor_size is None:
            sensor_size = _likely_sensor(reading)
        counts = frames_of(reading, steps, sensor_size)
    except (*DAMAGE, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if reading.left_out:
        report(f"{reading.left_out:,} special events, of no pixel, are left out")
    return resize(torch.from_numpy(counts.astype(np.float32)), description["image_size"])


def _likely_sensor(reading: Reading) -> tuple[int, int]:
    """(H, W) of the sensor of a network that does not say it: all there were then are square."""
    if isinstance(reading.content, Events):
        return SIDE, SIDE
    if len(set(reading.sensor)) > 1:
        raise ValueError(f"frames of {in_pixels(reading.sensor)}, expected square ones")
    return reading.sensor
