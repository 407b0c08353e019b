"""What `look_inside` has found: as numbers, as a table, and as TensorBoard events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from experiment.curves import distils
from experiment.train.folder import evaluated
from experiment.trained.part.activity import LayerActivity, Trace
from experiment.trained.part.trained_network import Trained
from util.figure import markdown_table

SUFFIX = ".look_inside"  # tells our event files from those of a training in the same folder
EVENT_FILES = f"events.out.tfevents.*{SUFFIX}"
HEADER = (
    "spiking layer",
    "neurons",
    "firing rate",
    "silent (%)",
    "saturated (%)",
    "gradient cosine",
)


class Findings(NamedTuple):
    """layers: over `images` test images; traces: on one of them; cosines: of `batch` images.

    cosines: by layer and of "all" weights together, see `gradient_agreement`.
    """

    layers: list[LayerActivity]
    traces: list[Trace]
    cosines: dict[str, float]
    images: int
    batch: int

    def plain(self) -> dict[str, Any]:
        layers = [
            {
                "name": layer.name,
                "neurons": layer.rates.numel(),
                "firing_rate": layer.rates.mean().item(),
                "silent": layer.silent,
                "saturated": layer.saturated,
            }
            for layer in self.layers
        ]
        potentials = [
            {
                "neuron": trace.label,
                "before_reset": trace.before.tolist(),
                "after_reset": trace.after.tolist(),
                "spikes": trace.spikes.int().tolist(),
            }
            for trace in self.traces
        ]
        return {"layers": layers, "potentials": potentials, "gradient_cosine": self.cosines}

    def table(self) -> str:
        """A row per layer for a terminal, and what its columns mean."""
        rows = []
        for name, rates, *shares in self.layers:
            percent = [f"{100 * share:.1f}" for share in shares]
            cosine = f"{self.cosines[name]:.3f}" if name in self.cosines else ""
            rows.append((name, f"{rates.numel():,}", f"{rates.mean():.3f}", *percent, cosine))
        lines = [
            markdown_table(HEADER, rows),
            "",
            f"silent: no spike on {self.images} test images; saturated: a spike at every step of "
            "all",
            f"gradient cosine: rate-based against BPTT on {self.batch} test images; all weights "
            f"together {self.cosines['all']:.3f}",
        ]
        return "\n".join(lines)


def write_events(folder: Path, pictures: Sequence[Path], found: Findings, trained: Trained) -> None:
    """Findings and pictures at the epoch that the network has reached, the training by epoch.

    Raises: ModuleNotFoundError if TensorBoard is not installed.
    """
    from torch.utils.tensorboard import SummaryWriter

    step, records = trained.epochs, trained.records
    with SummaryWriter(str(folder), filename_suffix=SUFFIX) as writer:
        for layer in found.layers:
            writer.add_histogram(f"firing_rate/{layer.name}", layer.rates.flatten(), step)
            writer.add_scalar(f"silent/{layer.name}", layer.silent, step)
            writer.add_scalar(f"saturated/{layer.name}", layer.saturated, step)
        for name, cosine in found.cosines.items():
            writer.add_scalar(f"gradient_cosine/{name}", cosine, step)
        for path in pictures:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            writer.add_image(path.stem, pixels, step, dataformats="HWC")
        for record in records if distils(records) else ():
            writer.add_scalar("training/reliable", record["train"]["reliable"], record["epoch"])
        for record in evaluated(records):
            for head, accuracy in enumerate(record["test"]["head_top1"], 1):
                writer.add_scalar(f"training/test_top1/head_{head}", accuracy, record["epoch"])
