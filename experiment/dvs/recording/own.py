"""One's own recordings: which there are, and where what is made of them goes.

FOLDER/CLASS/*     or     FOLDER/train/CLASS/* and FOLDER/test/CLASS/*

Frames go to FOLDER/.frames, or into a folder of the cache that is named after FOLDER; those of a
sensor that is asked for into one beside it, by experiment.dvs.recording.sensor.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from experiment.dvs.recording.recordings import SUFFIXES
from experiment.dvs.recording.source import PARTS, Store, lies_in_parts
from experiment.dvs.split import GIVEN, STRATIFIED
from util.file.named_folder import is_data, refuse_no_folder
from util.image.class_folders import (
    Sort,
    find_in_class_folders,
    quoted,
    refuse_different_classes,
)

RECORDINGS = Sort("recording", SUFFIXES, "*.npz")
VALIDATION = {"val", "valid", "validation"}  # names that others give a test set


def find_own(store: Store) -> Store:
    """The store with all that its folder says, but for the sensor.

    Raises: FileNotFoundError, ValueError for a folder that holds no classes of recordings.
    """
    folder = store.folder
    refuse_no_folder(folder, ["a folder for each class"])
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: expected {folder}/CLASS/*.npz")
    parts = _parts_of(folder)
    sort = RECORDINGS._replace(parts=" in train and test" if len(parts) == 2 else "")
    classes, names = {}, []
    for part in parts:
        found, _, classes[part] = find_in_class_folders(folder / part, sort)
        names += [os.path.join(part, os.fsdecode(name)) for name in found]
    if len(parts) == 2:
        refuse_different_classes(folder, classes)
    _refuse_namesakes(folder, names)
    source = store.source._replace(
        groups=tuple(os.path.join(part, name) for part in parts for name in classes[part]),
        samples=len(names),
        splits=(GIVEN,) if len(parts) == 2 else (STRATIFIED,),
        files={name: _state(folder / name) for name in names},
    )
    return Store(source, folder, _cache(store))


def _state(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _parts_of(folder: Path) -> tuple[str, ...]:
    """The parts that a folder is split into, or itself. Raises: ValueError for a doubtful one."""
    names = {path.name for path in folder.iterdir() if path.is_dir() and is_data(path.name)}
    others = sorted(names - set(PARTS))
    if lies_in_parts(folder) and others:
        raise ValueError(
            f"{folder} has train and test, and {quoted(others)} beside them: expected these two "
            "alone, or a folder for each class"
        )
    if "train" in names and names & VALIDATION:
        raise ValueError(
            f"{folder} has train and {quoted(sorted(names & VALIDATION))}: name the test set's "
            "folder test"
        )
    return PARTS if lies_in_parts(folder) else ("",)


def _refuse_namesakes(folder: Path, names: list[str]) -> None:
    """ValueError for two files that differ in the suffix alone: a sample has its name without."""
    met: dict[str, str] = {}
    for name in names:
        first = met.setdefault(os.path.splitext(name)[0], name)
        if first != name:
            raise ValueError(
                f"{folder} has {first} and {name}: keep one of them, or give them other names"
            )


def _cache(store: Store) -> Path:
    """Where frames go: apart from the classes, and apart from those of other folders."""
    folder = store.folder.resolve()
    if store.cache == store.folder:
        return store.folder / ".frames"
    if store.cache.resolve().is_relative_to(folder):
        raise ValueError(
            f"--cache_path {store.cache.parent} lies in the folder of the recordings: name another"
        )
    return store.cache / f"{folder.name}-{zlib.crc32(os.fsencode(folder)):08x}"
