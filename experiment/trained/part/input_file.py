"""The files to classify, each brought to the form of the test set.

Pictures go the way of the test set's (`util.image.fitting`): resized, cut, normalised; one that has
the test set's size already, as all of CIFAR, is only normalised. Recordings: `input_events`.

Shapes: T time steps, C channels, H x W pixels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiment.dvs.recording.recordings import SUFFIXES as EVENT_SUFFIXES
from experiment.trained.part.exported import Exported
from experiment.trained.part.input_events import read_events
from util.file.named_folder import folders_below
from util.image.fitting import fitted
from util.image.picture import SUFFIXES as IMAGE_SUFFIXES
from util.image.picture import read_picture


def wanted_suffixes(network: Exported) -> tuple[str, ...]:
    """The kinds of files that the network can read: images are normalised, events are not."""
    return IMAGE_SUFFIXES if network.description["kind"] == "images" else EVENT_SUFFIXES


def find_files(inputs: Sequence[Path], suffixes: Sequence[str]) -> Iterator[Path]:
    """The files named, and those with a known suffix below the folders named, in order.

    Links are followed; one that leads nowhere is a file that cannot be read.
    Raises: ValueError for a folder without any, OSError for one that cannot be read.
    """
    for path in inputs:
        if not path.is_dir():
            yield path
            continue
        files = (Path(f.path, name) for f in folders_below(path) for name in f.files)
        found = [
            p
            for p in sorted(files)
            if p.suffix.lower() in suffixes and (p.is_file() or p.is_symlink())
        ]
        if not found:
            raise ValueError(f"folder {path} has no files of the kinds {', '.join(suffixes)}")
        yield from found


def read_input(path: Path, network: Exported) -> Tensor:
    """What the network takes: an image (1, C, H, W) or frames (T, 1, C, H, W), float32.

    Raises: one of util.image.picture.UNREADABLE.
    """
    net, description = network
    if description["kind"] != "images":
        frames = read_events(
            path, description, net.T, lambda line: print(f"{path}: {line}", file=sys.stderr)
        )
        return frames[:, None]
    if path.suffix.lower() in EVENT_SUFFIXES:
        raise ValueError(
            "a recording of events, but the network was trained on images: expected a "
            "picture, such as a .png or .jpg file"
        )
    return read_image(path, description, net.in_channels)


def read_image(path: Path, description: dict[str, Any], channels: int) -> Tensor:
    """The centre of an image, resized and normalised: (1, C, H, W) float32.

    Raises: one of util.image.picture.UNREADABLE.
    """
    picture, side = read_picture(path), description["image_size"]
    pixels = fitted(picture, resize=description["resize"], side=side, channels=channels)
    mean, std = (torch.tensor(description[name]).view(-1, 1, 1) for name in ("mean", "std"))
    return ((pixels.float() / 255 - mean) / std)[None]
