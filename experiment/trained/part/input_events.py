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
from experiment.dvs.frames import checked_counts
from experiment.dvs.integrate import integrate
from experiment.dvs.recording.aedat import SIDE, Events, decode_aedat
from experiment.dvs.recording.recordings import DAMAGE, checked_events, open_arrays
from util.image.picture import SUFFIXES as IMAGE_SUFFIXES

EVENT_SUFFIXES = (".aedat", ".npz")
RECORDINGS = (*EVENT_SUFFIXES, ".npy", ".aedat4")  # are read, or refused with the reason

WANTED = (
    "expected a recording of an event camera: AEDAT 2.0 (.aedat), or a .npz file with event arrays "
    "t, x, y, p or with an array 'frames'"
)


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
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        raise ValueError(f"a picture, but the network was trained on events: {WANTED}")
    if suffix == ".npy":
        raise ValueError(f"a single array (.npy): {WANTED}")
    sensor_size = tuple(description.get("sensor_size", ())) or None
    try:
        counts = _counts(path, steps, sensor_size, report)
    except (*DAMAGE, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return resize(counts, description["image_size"])


def _counts(
    path: Path, steps: int, sensor_size: tuple[int, int] | None, report: Callable[[str], None]
) -> Tensor:
    """Counts (T, 2, H, W) of frames, event arrays or an AEDAT file."""
    height, width = sensor_size or (SIDE, SIDE)
    if path.suffix.lower() == ".npz":
        with open_arrays(path) as content:
            if "frames" in content:
                return checked_counts(content["frames"], steps, sensor_size)
            if not set(Events._fields) & set(content.files):
                raise ValueError(f"arrays {', '.join(content.files) or '(none)'}: {WANTED}")
            events = checked_events(content)
    else:
        events, left_out = decode_aedat(path.read_bytes())
        if (height, width) != (SIDE, SIDE):
            raise ValueError(
                f"a recording of {SIDE} x {SIDE} pixels, but the network was trained on "
                f"{height} x {width}"
            )
        if left_out:
            report(f"{left_out:,} special events, of no pixel, are left out")
    return torch.from_numpy(integrate(events, steps, height=height, width=width).astype(np.float32))
