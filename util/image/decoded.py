"""Pictures of a folder as pixels in memory: decoded once, in parallel, many of them for later too.

Shapes: N pictures, C channels, H = W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Dataset, TensorDataset

from util.file.alone import alone_in
from util.file.named_folder import folder_problem
from util.image.files import ImageFiles
from util.image.fitting import fitted
from util.image.image_sets import Images
from util.image.picture_folder import TESTS, PictureOptions, find_own_pictures, second_part
from util.image.pixel_cache import PixelCache, signature_of
from util.process.loader import read_once
from util.process.memory import bytes_of_memory
from util.process.progress import Countdown

Report = Callable[[str], None]

CHUNK, CHUNK_BYTES = 64, 4_000_000  # pictures, and bytes of them, that a process hands over
MANY, LARGE = 5000, 64_000_000  # pictures, or bytes of their files, from which on pixels are kept
COPIES = 2  # of the pixels at most, while a file of them is written or some are held out


def read_pictures(
    folder: Path, options: PictureOptions, *, cache: Path | None = None, report: Report
) -> Images:
    """The pictures below a folder, each resized and cut to a square, in the form of every data set.

    Many or large ones are decoded once and kept in a file in `cache` (default: the folder).
    `report` is given a line of text now and then.

    Raises: what `find_own_pictures` raises; ValueError for a picture that cannot be read, or for
    more of them than fit into memory.
    """
    found = find_own_pictures(folder, options)
    if second_part(folder) == TESTS[0] and (folder / TESTS[1]).is_dir():
        report(f"{folder / TESTS[1]} is not read: the test set is {folder / TESTS[0]}")
    files = (found.train, found.test)
    refuse_too_many(sum(map(len, files)), options)
    pixels = torch.from_numpy(decoded(folder, files, options, cache or folder, report))
    train, test = (
        TensorDataset(part, torch.from_numpy(own.labels).long())
        for part, own in zip(pixels.split([len(own) for own in files]), files, strict=True)
    )
    return Images(train, test, found.class_names)


def refuse_too_many(count: int, options: PictureOptions) -> None:
    """ValueError if the pixels do not fit into memory, for all processes of this machine."""
    side = options.image_size
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = COPIES * processes * count * (options.channels or 3) * side**2
    memory = bytes_of_memory()
    if needed > memory:
        raise ValueError(
            f"{count:,} pictures of {side} x {side} pixels take {needed / 1e9:,.1f} GB of memory, "
            f"this machine has {memory / 1e9:,.1f} GB: choose a smaller --image_size, or train "
            "with experiment/imagenet/main.py, which reads the files of train/ and val/ anew in "
            "each epoch"
        )


def decoded(
    folder: Path, files: Sequence[ImageFiles], options: PictureOptions, cache: Path, report: Report
) -> np.ndarray:
    """The pixels of all pictures, (N, C, H, W) uint8, from the file in `cache` where that is right.

    Of several processes one decodes and writes the file, while the others wait for it.
    """
    signature, count, size = signature_of(files)
    if count < MANY and size < LARGE:
        return decode(files, options)

    def decode_visibly() -> np.ndarray:
        with closing(Countdown("decoding", count, report)) as countdown:
            return decode(files, options, countdown.advance)

    kept = PixelCache.of(folder, signature, count, options, cache)
    if (pixels := kept.read()) is not None:
        return pixels
    problem = folder_problem(cache)
    if problem is not None:
        report(f"warning: the pictures are decoded each time: {problem}; name a --cache_path")
        return decode_visibly()
    with alone_in(cache, report):
        if (pixels := kept.read()) is None:
            pixels = decode_visibly()
            try:
                kept.write(pixels)
            except OSError as error:
                report(f"warning: the pictures are decoded again next time: {error}")
    return pixels


def decode(
    files: Sequence[ImageFiles],
    options: PictureOptions,
    advance: Callable[[int], None] = lambda pictures: None,
) -> np.ndarray:
    """The pixels of all pictures; `advance` is told of how many more they are there."""
    chunks = Chunks(files, options.image_size, options.channels)
    useful = min(len(chunks), len(os.sched_getaffinity(0)))  # more would wait for each other
    workers = min(options.num_workers, useful) if useful > 1 else 0
    side = options.image_size
    pixels = np.empty((len(chunks.pictures), options.channels or 1, side, side), np.uint8)
    done = 0
    with closing(read_once(chunks, num_workers=workers)) as found:
        for chunk in found:
            if chunk.shape[1] > pixels.shape[1]:  # the first with colours
                pixels = np.repeat(pixels, 3, axis=1)
            pixels[done : done + len(chunk)] = chunk
            done += len(chunk)
            advance(len(chunk))
    return pixels


class Chunks(Dataset):
    """Pixels of some pictures in order, (up to CHUNK, C, H, W) uint8.

    channels: C; None: 1 where all pictures of a chunk are gray, else 3.
    """

    def __init__(self, files: Sequence[ImageFiles], image_size: int, channels: int | None):
        fit = partial(fitted, resize=image_size, side=image_size, channels=channels or 3)
        self.pictures = ConcatDataset([part.part(range(len(part)), fit) for part in files])
        self.may_be_gray = channels is None
        self.size = max(1, min(CHUNK, CHUNK_BYTES // (3 * image_size**2)))

    def __len__(self) -> int:
        return -(-len(self.pictures) // self.size)

    def __getitem__(self, index: int) -> np.ndarray:
        numbers = range(len(self.pictures))[index * self.size : (index + 1) * self.size]
        pixels = np.stack([self.pictures[number][0].numpy() for number in numbers])
        is_gray = self.may_be_gray and (pixels == pixels[:, :1]).all()
        return pixels[:, :1] if is_gray else pixels
