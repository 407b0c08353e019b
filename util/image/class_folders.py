"""The files below a folder of class folders, and what is wrong where there are none.

ROOT/CLASS/*.JPEG, or deeper below CLASS; folders may be links. Images, or what `Sort` says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from util.file.named_folder import folders_below, is_data
from util.image.picture import SUFFIXES


class Sort(NamedTuple):
    """What is looked for: what one is called, suffixes in lower case, an example, the parts."""

    noun: str
    suffixes: tuple[str, ...]
    example: str
    parts: str = ""  # where else a class has to be deleted


IMAGES = Sort("image", SUFFIXES, "*.JPEG", " in every part")


class Found(NamedTuple):
    """Those of one folder; place: the folder, relative to the root; label: of its class."""

    label: int
    place: str
    names: list[str]


def find_in_class_folders(
    root: Path, sort: Sort = IMAGES
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Paths relative to `root`, in bytes, their labels, and the classes: the folders' names.

    Order: by class, folder and name, as torchvision's ImageFolder has it.
    Raises: FileNotFoundError where there are no class folders, or one has no images; ValueError
    where there is one class alone, where the class folders lie deeper, or where a link leads to a
    folder that is there already; OSError for a folder that cannot be read.
    """
    classes = find_classes(root, sort)
    found = sorted(find_files_of_classes(root, classes, sort))
    empty = sorted({*range(len(classes))} - {files.label for files in found})
    if empty:
        raise FileNotFoundError(
            f"{root} has {len(classes)} class folders, without any {sort.noun} in "
            f"{quoted([classes[label] for label in empty])} (looked for "
            f"{', '.join(sort.suffixes)}): add some, or delete the folder{sort.parts}"
        )
    refuse_too_deep(root, classes, found, sort)
    paths = [os.fsencode(os.path.join(place, name)) for _, place, names in found for name in names]
    labels = np.repeat([p.label for p in found], [len(p.names) for p in found])
    return np.array(paths), labels, tuple(classes)


def find_classes(root: Path, sort: Sort) -> list[str]:
    entries = [entry for entry in os.scandir(root) if is_data(entry.name)]
    lost = sorted(e.name for e in entries if e.is_symlink() and not os.path.exists(e.path))
    if lost:
        raise FileNotFoundError(
            f"{root} has links to what is not there, {quoted(lost)}: bring it "
            f"back, or remove the links{sort.parts}"
        )
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise FileNotFoundError(
            f"{root} has no class folders ({len(entries)} files and no folders): expected "
            f"{root}/CLASS/{sort.example}; sort the {sort.noun}s into a folder for each class"
        )
    return names


def find_files_of_classes(root: Path, classes: Sequence[str], sort: Sort) -> Iterator[Found]:
    """Of every folder below the class folders that has some."""
    labels = {name: label for label, name in enumerate(classes)}
    for folder in folders_below(root):
        if folder.path != folder.first:
            raise ValueError(
                f"{folder.path} is a link to {folder.first}, whose {sort.noun}s would be "
                "there twice: remove the link"
            )
        place = folder.path[len(os.path.join(root, "")) :]
        names = [name for name in folder.files if name.lower().endswith(sort.suffixes)]
        if place and names:
            yield Found(labels[place.partition(os.sep)[0]], place, names)


def refuse_too_deep(root: Path, classes: Sequence[str], found: Sequence[Found], sort: Sort) -> None:
    """ValueError for one class, or several that look like parts of a data set.

    Those hold the same folders, more of them than there are parts, and no file beside them; cat/
    and dog/ with left/ and right/ in each are classes.
    """
    inside = [set() for _ in classes]  # the entries of each class
    for label, place, _ in found:
        inside[label].add(place.partition(os.sep)[2].partition(os.sep)[0])
    shared = sorted(set.intersection(*inside))
    if len(shared) > len(classes) and "" not in set.union(*inside):
        raise ValueError(
            f"{root} holds {quoted(classes)}, and the folders inside are {quoted(shared)}: "
            f"one level too deep; expected the folders of the classes directly in {root}"
        )
    if len(classes) == 1:
        deeper = [name for name in shared if name]
        inner = f" in the folder {quoted(deeper)}" if deeper else ""
        raise ValueError(
            f"{root} has one class folder, {quoted(classes)}, with "
            f"{sum(len(p.names) for p in found)} {sort.noun}s{inner}: expected at least two "
            "classes, directly in the folder that is given"
        )


def refuse_different_classes(folder: Path, classes: Mapping[str, Sequence[str]]) -> None:
    """ValueError if the two parts of a data set, by their names in `folder`, differ in a class."""
    (one, there), (other, there_too) = classes.items()
    odd = sorted(set(there) ^ set(there_too))
    if odd:
        raise ValueError(
            f"{folder}/{one} has {len(there)} classes and {folder}/{other} has "
            f"{len(there_too)}, they differ in {odd[0]!r}: expected the same folders in both"
        )


def quoted(names: Sequence[str]) -> str:
    """The first three names in quotes, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
