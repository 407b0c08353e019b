"""The folder that holds a data set, and which one is meant where it is a folder near by."""

from collections.abc import Sequence
from pathlib import Path

from util.entry import is_data


def refuse_no_folder(folder: Path, wanted: Sequence[str], *, unpacked: bool = False) -> None:
    """ValueError if the data path is a file or a dead link.

    wanted: names of which a data set's folder has at least one; unpacked: whether those that are
    archives are unpacked by the program.
    """
    if folder.is_symlink() and not folder.exists():
        raise ValueError(f"data path {folder} is a link to {folder.readlink()}, which is not there")
    if folder.is_file():
        advice = f"give the folder that holds {' or '.join(wanted)}"
        if unpacked and folder.name in wanted:
            advice = f"it is unpacked by itself, give its folder {folder.absolute().parent}"
        elif folder.suffix in (".tar", ".tgz", ".gz", ".zip"):
            advice = f"unpack it, and {advice}"
        raise ValueError(f"data path {folder} is a file: {advice}")


def refuse_folder_near(folder: Path, wanted: Sequence[str]) -> None:
    """ValueError if the data path has none of `wanted`, and a folder near by has."""
    if any((folder / name).exists() for name in wanted):
        return
    place = place_near(folder, wanted)
    if place is not None:
        raise ValueError(
            f"data path {folder} does not hold {' or '.join(wanted)}, but {place} does: give that"
        )


def place_near(folder: Path, wanted: Sequence[str]) -> Path | None:
    """The folder that has one of `wanted` where `folder` is in it, or is one level too high."""
    path = folder.absolute()
    above = [
        place
        for place in path.parents[:2]
        for name in wanted
        if (place / name).exists() and path.is_relative_to(place / Path(name).parts[0])
    ]
    below = [
        place
        for place in sorted(folder.glob("*/"))
        if is_data(place.name) and any((place / name).exists() for name in wanted)
    ]
    return next(iter([*above, *below]), None)
