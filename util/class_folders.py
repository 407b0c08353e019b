"""The image files below a folder of class folders, and what is wrong where there are none.

ROOT/CLASS/*.JPEG, or deeper below CLASS
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets import ImageFolder

from util.entry import is_data
from util.picture import SUFFIXES


class ClassFolders(ImageFolder):
    """The pictures of each class folder; what systems leave beside data is no class nor picture."""

    def __init__(self, root: Path):
        inside = len(os.path.join(root, ""))

        def is_sample(path: str) -> bool:
            return path.lower().endswith(SUFFIXES) and is_data(path[inside:])

        super().__init__(root, is_valid_file=is_sample, allow_empty=True)
        self.names = [path[inside:] for path, _ in self.samples]

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        entries = [entry for entry in os.scandir(directory) if is_data(entry.name)]
        names = sorted(entry.name for entry in entries if entry.is_dir())
        if not names:
            raise FileNotFoundError(
                f"{directory} has no class folders ({len(entries)} files and no folders): expected "
                f"{directory}/CLASS/*.JPEG; sort the images into a folder for each class"
            )
        return names, {name: label for label, name in enumerate(names)}


def find_in_class_folders(root: Path) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Paths relative to `root`, in bytes, their labels, and the classes: the folders' names.

    Raises: FileNotFoundError where there are no class folders, or one has no images; ValueError
    where there is one class alone, or where the class folders lie deeper.
    """
    folder = ClassFolders(root)
    labels = np.array(folder.targets, dtype=int)
    empty = [folder.classes[k] for k in sorted({*range(len(folder.classes))} - {*folder.targets})]
    if empty:
        raise FileNotFoundError(
            f"{root} has {len(folder.classes)} class folders, without any image in {named(empty)} "
            f"(looked for {', '.join(SUFFIXES)}): add some, or delete the folder in train and val"
        )
    refuse_too_deep(root, folder)
    return np.array([os.fsencode(name) for name in folder.names]), labels, tuple(folder.classes)


def refuse_too_deep(root: Path, folder: ClassFolders) -> None:
    """ValueError for one class, or several that hold the same folders and no image beside them."""
    inside = [set() for _ in folder.classes]  # the entries of each class
    for name, label in zip(folder.names, folder.targets, strict=True):
        inside[label].add(os.path.dirname(name).partition(os.sep)[2].partition(os.sep)[0])
    shared = sorted(set.intersection(*inside))
    if len(shared) > 1 and "" not in set.union(*inside):
        raise ValueError(
            f"{root} holds {named(folder.classes)}, and the folders inside are {named(shared)}: "
            f"one level too deep; expected the folders of the classes directly in {root}"
        )
    if len(folder.classes) == 1:
        deeper = [name for name in shared if name]
        inner = f" in the folder {named(deeper)}" if deeper else ""
        raise ValueError(
            f"{root} has one class folder, {named(folder.classes)}, with {len(folder)} images"
            f"{inner}: expected at least two classes"
        )


def named(names: Sequence[str], shown: int = 3) -> str:
    """The first names in quotes, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(map(repr, names[:shown])) + more
