"""Where the recordings of a data set lie, all of them being there.

A group (a class, or a class in train/ or test/) is looked for, in this order, as

    download/GROUP.zip, GROUP.zip      the published archives, read without unpacking them
    extract/GROUP/, GROUP/             unpacked, one .aedat file per recording
    events_np/GROUP/                   spikingjelly's event arrays, one .npz file per recording

One's own recordings lie in GROUP/.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from experiment.dvs.recording.recordings import Recording, files_in, recordings
from experiment.dvs.recording.source import DataSource, Store, frames_folder


def find_groups(store: Store, T: int) -> dict[str, Path]:
    """The archive or folder of each group, in the data set's folder or in its cache.

    Raises: FileNotFoundError for missing groups, ValueError for archives that cannot be opened,
    another number of recordings than expected, or fewer events in any of them than T.
    """
    source, folder, cache = store
    if source.is_own:
        places = {group: folder / group for group in source.groups}
    else:
        places = {
            group: find_group(folder, group) or find_group(cache, group) for group in source.groups
        }
    missing = [group for group, place in places.items() if place is None]
    if missing:
        raise FileNotFoundError(_missing_sentence(store, T, missing))
    found, problems = {}, []
    for group, place in places.items():
        try:
            found[group] = list(recordings(place))
        except (zipfile.BadZipFile, OSError) as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise ValueError(damage_sentence(source, problems))
    every = [recording for in_group in found.values() for recording in in_group]
    if len(every) != source.samples:
        listed = ", ".join(f"{places[group]}: {len(found[group])}" for group in found)
        raise ValueError(
            f"{len(every):,} recordings of {source.name}, expected {source.samples:,}: "
            f"{'delete' if source.simulated else 'complete'} these ({listed})"
        )
    refuse_more_frames_than_events(every, T)
    return places


def find_group(folder: Path, group: str) -> Path | None:
    """The archive or folder that holds the recordings of `group`, or None.

    Raises: ValueError for event arrays that spikingjelly did not finish.
    """
    for parent in ("download", "."):
        for suffix in (".zip", ".ZIP"):
            archive = folder / parent / f"{group}{suffix}"
            if archive.is_file():
                return archive
    for parent, suffix in (("extract", ".aedat"), (".", ".aedat"), ("events_np", ".npz")):
        place = folder / parent / group
        if files_in(place, suffix):
            refuse_unfinished(folder / parent)
            return place
    return None


def refuse_unfinished(folder: Path) -> None:
    """ValueError if spikingjelly was interrupted while it filled `folder`: it leaves a mark."""
    mark = folder.with_name(f"{folder.name}.building")
    if mark.exists():
        raise ValueError(
            f"spikingjelly was interrupted while it filled {folder}, and files in it may be torn: "
            f"delete that folder and {mark}, then start again"
        )


def refuse_more_frames_than_events(found: list[Recording], T: int) -> None:
    """ValueError if no recording can have T events, going by the sizes of their files."""
    if any(recording.most_events is None for recording in found):
        return
    largest = max(found, key=lambda recording: recording.most_events)
    if largest.most_events < T:
        raise ValueError(
            f"T = {T:,}: no recording has so many events, {largest.place} at most "
            f"{largest.most_events:,}: choose a smaller --T"
        )


def count_files(source: DataSource, frames: Path) -> int:
    """How many samples' frames the folder has."""
    return sum(len(files_in(frames / group, ".npz")) for group in source.groups)


def remedy(source: DataSource) -> str:
    """What to do about files that are not as they should be."""
    if source.is_own:
        return "replace or delete these files"
    return "delete these files" if source.simulated else "fetch these files again"


def damage_sentence(source: DataSource, problems: list[str]) -> str:
    """A line for each of `problems`, below one that says what to do."""
    advice = f"{remedy(source)} and start again, the rest is kept"
    return "\n  ".join([f"{len(problems)} damaged; {advice}:", *problems])


def _missing_sentence(store: Store, T: int, missing: list[str]) -> str:
    source, folder, cache = store
    links = {Path(file).stem: url for file, (url, _) in source.archives.items()}
    wanted = [f"{group}.zip from {links[group]}" for group in missing if group in links]
    frames, here = frames_folder(cache, T), ""
    if frames.is_dir():
        here = f" ({frames.name} has {count_files(source, frames):,} of {source.samples:,} samples)"
    elif others := sorted(folder.glob("frames_number_*_split_by_number")):
        names = ", ".join(path.name for path in others)
        here = f" ({names} cannot replace {frames.name})"
    return (
        f"{source.name} in {folder} lacks the recordings of {', '.join(missing)}{here}; put "
        f"{', '.join(wanted) or 'them'} into {folder / 'download'}, or folders of .aedat files "
        f"into {folder / 'extract'}"
    )
