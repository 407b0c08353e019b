"""What `look_inside` finds, as TensorBoard events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiment.curves import distils
from experiment.trained.activity import LayerActivity

SUFFIX = ".look_inside"  # tells our event files from those of a training in the same folder
EVENT_FILES = f"events.out.tfevents.*{SUFFIX}"


def write_events(
    folder: Path,
    pictures: Sequence[Path],
    layers: Sequence[LayerActivity],
    cosines: dict[str, float],
    records: Sequence[dict[str, Any]],
    *,
    step: int,
) -> None:
    """Histograms, fractions and cosines at `step` (epochs trained), pictures, scalars by epoch.

    Raises: ModuleNotFoundError if TensorBoard is not installed.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for layer in layers:
            writer.add_histogram(f"firing_rate/{layer.name}", layer.rates.flatten(), step)
            writer.add_scalar(f"silent/{layer.name}", layer.silent, step)
            writer.add_scalar(f"saturated/{layer.name}", layer.saturated, step)
        for name, cosine in cosines.items():
            writer.add_scalar(f"gradient_cosine/{name}", cosine, step)
        for path in pictures:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            writer.add_image(path.stem, pixels, step, dataformats="HWC")
        has_teacher = distils(records)
        for record in records:
            epoch = record["epoch"]
            if has_teacher:
                writer.add_scalar("training/reliable", record["train"]["reliable"], epoch)
            for head, accuracy in enumerate(record["test"]["head_top1"], 1):
                writer.add_scalar(f"training/test_top1/head_{head}", accuracy, epoch)
