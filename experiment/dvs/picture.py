"""A picture of event frames: one row per class, one column per time step."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiment.dvs.event_data import EventData
from util.figure import drawing, label_of

GAP = 2  # pixels between frames
FULL_COLOR = 99.5  # percentile of a sample's counts that is drawn in full colour


def draw_event_frames(data: EventData, path: str | Path) -> None:
    """Write a PNG file of the first test sample of each class, as the network gets it.

    ON events are red, OFF events blue, pixels with both black, on white. The file appears whole.
    """
    labels = data.test.labels
    drawn = sorted(set(labels))
    rows = [colored(data.test[labels.index(label)][0].numpy()) for label in drawn]
    mosaic = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    size = data.image_size + GAP
    names = [label_of(data.class_names[label]) for label in drawn]
    with drawing(Path(path), 1.2 + data.T, 0.8 + len(drawn)) as figure:
        axes = figure.subplots()
        axes.imshow(mosaic, interpolation="nearest")
        axes.set_xticks(size * np.arange(data.T) + size / 2, [str(t + 1) for t in range(data.T)])
        axes.set_yticks(size * np.arange(len(drawn)) + size / 2, names)
        axes.set(xlabel="time step", title=f"{data.name}: ON events red, OFF events blue")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)


def colored(frames: np.ndarray) -> np.ndarray:
    """Counts (T, 2, H, W), OFF and ON -> colours in 0..1, (T, H + GAP, W + GAP, 3), framed gray."""
    scale = np.percentile(frames[frames > 0], FULL_COLOR) if frames.any() else 1.0
    off, on = np.clip(frames / scale, 0, 1).transpose(1, 0, 2, 3)
    colors = np.stack([1 - off, 1 - np.maximum(on, off), 1 - on], axis=-1)
    margins = [(0, 0), (GAP // 2, GAP - GAP // 2), (GAP // 2, GAP - GAP // 2), (0, 0)]
    return np.pad(colors, margins, constant_values=0.8)
