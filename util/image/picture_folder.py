"""A person's own pictures, in class folders, and which of them are for the test.

FOLDER/train/CLASS/*     FOLDER/test/CLASS/* (or FOLDER/val/CLASS/*)
FOLDER/CLASS/*           a share of each class is drawn for the test
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from util.file.named_folder import is_data, refuse_no_folder
from util.image.class_folders import quoted
from util.image.files import ImageFiles, find_image_files, find_two_parts
from util.process.sampler import mixed_seed
from util.stratify import refuse_small_classes, stratified_split

TRAIN, TESTS = "train", ("test", "val")  # of the latter the first that is there
LIKE_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation"}


class PictureOptions(NamedTuple):
    """How the pictures in a folder are read.

    image_size: pixels, of the square that the network sees; channels: 1 or 3, None: 1 if all
    pictures are gray and else 3; test_fraction, split_seed: how many of a tree in one part are for
    the test, and which; num_workers: processes that decode.
    """

    image_size: int = 32
    channels: int | None = None
    test_fraction: float = 0.2
    split_seed: int = 0
    num_workers: int = 0


class PictureFiles(NamedTuple):
    """The pictures to train with and to test with, each read when it is asked for."""

    train: ImageFiles
    test: ImageFiles
    class_names: tuple[str, ...]


def second_part(folder: Path) -> str | None:
    """The name of the test part where the folder is in two parts; None where it is one tree."""
    there = [name for name in TESTS if (folder / name).is_dir()]
    return there[0] if there and (folder / TRAIN).is_dir() else None


def find_own_pictures(folder: Path, options: PictureOptions) -> PictureFiles:
    """The pictures below a folder, in two parts or in one tree, which is split by class.

    Raises: FileNotFoundError for a folder that is not there or holds no class folders; ValueError
    for one class alone, other classes in the test part, or a class too small to be split.
    """
    refuse_no_folder(folder, ("train and test", "a folder for each class"))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"data path {folder} is not there: give with --data_path a folder with train/CLASS/* "
            "and test/CLASS/*, or with CLASS/*, CLASS being the name of each class"
        )
    second = second_part(folder)
    if second is not None:
        return PictureFiles(*find_two_parts(folder, TRAIN, second))
    refuse_lone_parts(folder)
    files, classes = find_image_files(folder, reader="pil")
    refuse_small_classes(files.labels, classes, options.test_fraction, "pictures")
    seed = mixed_seed("test", options.split_seed) % 2**32
    chosen = stratified_split(files.labels, options.test_fraction, part="test", seed=seed)
    train, test = (files.part(sorted(numbers)) for numbers in chosen)
    return PictureFiles(train, test, classes)


def refuse_lone_parts(folder: Path) -> None:
    """ValueError for a tree whose folders are named like parts of a data set, not like classes."""
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and is_data(p.name))
    if names and LIKE_PARTS.issuperset(map(str.lower, names)):
        raise ValueError(
            f"{folder} holds {quoted(names)}: expected train and test (or val), or the folders of "
            f"the classes; of a single part give its own folder, such as {folder / names[0]}"
        )
