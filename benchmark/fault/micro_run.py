"""experiment/cifar/main.py on 28 training images: a run small enough to be killed fifty times.

The same flags, engine, checkpoints and files; only the data are cut down.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from experiment.cifar.config.config import get_parser
from experiment.cifar.main import data_of, network_of
from experiment.options import make_request, training_recipe
from experiment.run import run
from util.checkpoint import load_checkpoint
from util.data import ImageData
from util.record import MetricsFile

TRAINING_IMAGES, TEST_IMAGES = 28, 12

# Four steps in each of three epochs; a checkpoint after steps 2 and 4 and after each epoch.
ARGUMENTS = ("--dataset", "FakeData", "--width", "2", "--T", "2", "--num_epoch", "3",
             "--train_batch_size", "8", "--num_workers", "0", "--checkpoint_every", "2",
             "--device", "cpu")  # fmt: skip


def main(
    argv: Sequence[str], *, change: Callable[[ImageData], ImageData] = lambda data: data
) -> dict[str, Any]:
    """`experiment.cifar.main.main` with fewer images, to which `change` may do something."""
    args = get_parser().parse_args(argv)
    return run(
        make_request(args), training_recipe(args), lambda: change(few_images(data_of(args))),
        partial(network_of, args),
    )  # fmt: skip


def few_images(data: ImageData) -> ImageData:
    """The first images of a data set."""
    train = copy(data.train)
    train.source = Subset(train.source, range(TRAINING_IMAGES))
    return replace(data, train=train, test=Subset(data.test, range(TEST_IMAGES)))


def outcome(folder: Path) -> dict[str, str]:
    """Digests of all that a finished run must reproduce, by what it is."""
    records = MetricsFile(folder / "metrics.jsonl").read()
    for record in records:
        del record["timing"]  # what the clock says is never the same
    lines = "\n".join(json.dumps(record) for record in records)
    return {
        "metrics.jsonl": hashlib.sha256(lines.encode()).hexdigest(),
        **{name: digest(load_checkpoint(folder / name)) for name in ("last.pt", "best.pt")},
    }


def digest(state: Any) -> str:
    """sha256 of a nested state, independent of the order of keys and of how it was written."""
    total = hashlib.sha256()
    for place, value in sorted(leaves(state)):
        total.update(f"{place} {value}\n".encode())
    return total.hexdigest()


def leaves(state: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """(place, content) of every tensor and every plain value."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, f"{place}/{key!r}")
    elif isinstance(state, list | tuple):
        for index, value in enumerate(state):
            yield from leaves(value, f"{place}/{index}")
    elif isinstance(state, torch.Tensor):
        content = hashlib.sha256(state.contiguous().numpy().tobytes()).hexdigest()
        yield place, f"{state.dtype} {tuple(state.shape)} {content}"
    else:
        yield place, repr(state)


def run_folders(log_path: Path) -> list[Path]:
    """The folders of runs that had begun, oldest first."""
    return sorted(path.parent for path in log_path.glob("*/config.json"))
