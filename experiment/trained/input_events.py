"""Recordings of event cameras to classify, integrated and resized as those of CIFAR10-DVS.

Shapes: T time steps, H x W pixels of the sensor.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from torch import Tensor

from experiment.dvs.augment import resize
from experiment.dvs.events import SIDE, decode_aedat
from experiment.dvs.prepare import integrate

EVENT_SUFFIXES = (".aedat", ".npz")

# What numpy and our own readers raise for files that are missing, damaged or of another kind.
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


def read_events(path: Path, description: dict[str, Any], steps: int) -> Tensor:
    """T frames (T, 2, H, W) float32 of a recording: AEDAT 2.0, or a .npz file with `frames`.

    Raises: one of UNREADABLE.
    """
    if path.suffix.lower() == ".npz":
        content = np.load(path)
        if not isinstance(content, NpzFile):
            raise ValueError("a single array, expected a .npz archive with an array 'frames'")
        with content:
            if "frames" not in content:
                raise ValueError("no array 'frames' in it")
            counts = content["frames"]
        if counts.ndim != 4 or counts.shape[:2] != (steps, 2) or counts.size == 0:
            raise ValueError(f"frames of shape {counts.shape}, expected {steps} of 2 channels")
    else:
        counts = integrate(decode_aedat(path.read_bytes()), steps, height=SIDE, width=SIDE)
    return resize(torch.from_numpy(counts.astype(np.float32)), description["image_size"])
