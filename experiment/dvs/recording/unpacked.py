"""What the archives of N-MNIST and DVS128 Gesture hold, where somebody has unpacked them.

N-MNIST           Train/DIGIT/*.bin and Test/DIGIT/*.bin, five bytes per event
DVS128 Gesture    DvsGesture/*.aedat (AEDAT 3.1), each with *_labels.csv, a line for each sample;
                  trials_to_train.txt and trials_to_test.txt list the files

No md5 sum says whether such files are whole: they are looked at, so that none is read in part.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from experiment.dvs.recording.aedat import decode_aedat
from experiment.dvs.recording.groups import damage_sentence
from experiment.dvs.recording.recordings import files_in
from experiment.dvs.recording.source import PARTS, DataSource
from util.image.class_folders import quoted

BYTES_OF_ATIS = 5  # of an event in a .bin file
LISTED = "DvsGesture"
LISTS = [f"trials_to_{part}.txt" for part in PARTS]


def find_unpacked(source: DataSource, folder: Path) -> Path | None:
    """The folder that holds all that is unpacked from the archives, or None."""
    places = [folder / "extract", folder]
    places += [folder.parent] if folder.name in source.unpacked else []
    return next(
        (place for place in places if all((place / name).is_dir() for name in source.unpacked)),
        None,
    )


def refuse_bad_files(source: DataSource, place: Path) -> None:
    """ValueError for damaged recordings, or if not all are there; FileNotFoundError by name."""
    folders = [place / name for name in source.unpacked]
    if LISTED in source.unpacked:
        recordings, samples = _listed(place / LISTED)
    else:
        recordings = [path for folder in folders for path in files_in(folder, ".bin")]
        samples = len(recordings)
    if samples != source.samples:
        raise ValueError(
            f"{' and '.join(map(str, folders))} have {samples:,} recordings of {source.name}, "
            f"expected {source.samples:,}: complete them"
        )
    problems = [f"{path}: {reason}" for path, reason in _damaged(recordings)]
    if problems:
        raise ValueError(damage_sentence(source, problems))


def link_files(source: DataSource, place: Path, target: Path) -> None:
    """Make `target` look as if the archives had been unpacked there, without strangers' files."""
    for name in source.unpacked:
        if name == LISTED:
            (target / name).symlink_to((place / name).resolve())
            continue
        for path in files_in(place / name, ".bin"):
            link = target / path.relative_to(place)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def _listed(folder: Path) -> tuple[list[Path], int]:
    """The recordings that the two lists name, and how many samples their labels say.

    Raises: FileNotFoundError for files that are not there.
    """
    lists = [folder / name for name in LISTS]
    _refuse_missing_files(lists)
    recordings = [folder / name for path in lists for name in _lines(path)]
    labels = [path.with_name(f"{path.stem}_labels.csv") for path in recordings]
    _refuse_missing_files([*recordings, *labels])
    return recordings, sum(len(_lines(path)) - 1 for path in labels)  # less the heading


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


def _refuse_missing_files(paths: list[Path]) -> None:
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"{quoted(missing)} not found: unpack the archive again")


def _damaged(recordings: list[Path]) -> Iterator[tuple[Path, str]]:
    for path in recordings:
        if path.suffix.lower() == ".bin":
            size = path.stat().st_size
            if size == 0 or size % BYTES_OF_ATIS:
                yield path, f"{size:,} bytes are no events of {BYTES_OF_ATIS} bytes each"
        else:
            try:
                decode_aedat(path.read_bytes())
            except ValueError as error:
                yield path, str(error)
