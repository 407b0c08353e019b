"""experiment/cifar/main.py on 28 training images: a run small enough to be killed fifty times.

The same flags, engine, checkpoints and files; only the data are cut down.
"""

from __future__ import annotations

import hashlib
import io
import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Subset

from experiment.cifar.config.config import get_parser
from experiment.cifar.main import data_of, network_of
from experiment.flag.values import recipe_of, request_of
from experiment.train.run import session, train
from util.checkpoint import load_checkpoint
from util.data import ImageData
from util.file.record import MetricsFile

TRAINING_IMAGES, TEST_IMAGES = 28, 12

# Four steps in each of three epochs; a checkpoint after steps 2 and 4 and after each epoch.
ARGUMENTS = tuple(
    shlex.split(
        "--dataset FakeData --arch vgg11 --width 2 --T 2 --num_epoch 3 --train_batch_size 8 "
        "--num_workers 0 --checkpoint_every 2 --device cpu"
    )
)


def main(
    argv: Sequence[str], *, change: Callable[[ImageData], ImageData] = lambda data: data
) -> dict[str, Any]:
    """`experiment.cifar.main.main` with fewer images, to which `change` may do something."""
    args = get_parser().parse_args(argv)
    request, recipe = request_of(args), recipe_of(args)
    with session(request, recipe) as group:
        data = change(few_images(data_of(args)))
        return train(request, recipe, data, network_of(args, data), group)


def few_images(data: ImageData) -> ImageData:
    train = replace(data.train, source=Subset(data.train.source, range(TRAINING_IMAGES)))
    return replace(data, train=train, test=Subset(data.test, range(TEST_IMAGES)))


def ending(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a command run in this process; -1 and the error if it crashed."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            main(command)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            print(f"Traceback: {error!r}")
            code = -1
    return code, output.getvalue()


def errors_in(text: str) -> list[str]:
    """The sentences with which a command says what was wrong."""
    return [line for line in text.splitlines() if line.startswith("error: ")]


def run_folders(log_path: Path) -> list[Path]:
    """The folders of runs that had begun, oldest first."""
    return sorted(path.parent for path in log_path.glob("*/config.json"))


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
