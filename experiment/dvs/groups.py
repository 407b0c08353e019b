"""Where the recordings of a data set lie, all of them being there."""

from __future__ import annotations

import zipfile
from pathlib import Path

from experiment.dvs.limit import refuse_more_frames_than_events
from experiment.dvs.recordings import files_in, find_group, recordings
from experiment.dvs.source import SOURCES, Source, dataset_class


def find_groups(name: str, folder: Path, frames: Path, *, T: int) -> dict[str, Path]:
    """The archive or folder of each group of data set `name`, in `folder` or beside `frames`.

    Raises: FileNotFoundError for missing groups, ValueError for archives that cannot be opened,
    another number of recordings than expected, or fewer events in any of them than T.
    """
    source, cache = SOURCES[name], frames.parent
    places = {
        group: find_group(folder, group) or find_group(cache, group) for group in source.groups
    }
    missing = [group for group, place in places.items() if place is None]
    if missing:
        raise FileNotFoundError(_missing_sentence(name, source, folder, frames, missing))
    found, problems = {}, []
    for group, place in places.items():
        try:
            found[group] = {recording.name: recording for recording in recordings(place)}
        except (zipfile.BadZipFile, OSError) as error:
            problems.append(f"{place}: {error}")
    if problems:
        raise ValueError(damage_sentence(source, problems))
    counts = {group: len(names) for group, names in found.items()}
    if sum(counts.values()) != source.samples:
        listed = ", ".join(f"{places[group]}: {count}" for group, count in counts.items())
        raise ValueError(
            f"{sum(counts.values()):,} recordings of {name}, expected {source.samples:,}: "
            f"{'delete' if source.simulated else 'complete'} these ({listed})"
        )
    refuse_more_frames_than_events([one for names in found.values() for one in names.values()], T)
    return places


def count_files(source: Source, frames: Path) -> int:
    """How many samples' frames the folder has."""
    return sum(len(files_in(frames / group, ".npz")) for group in source.groups)


def remedy(source: Source) -> str:
    """What to do about files that are not as they should be."""
    return "delete these files" if source.simulated else "fetch these files again"


def damage_sentence(source: Source, problems: list[str]) -> str:
    """A line for each of `problems`, below one that says what to do."""
    advice = f"{remedy(source)} and start again, the rest is kept"
    return "\n  ".join([f"{len(problems)} damaged; {advice}:", *problems])


def _missing_sentence(
    name: str, source: Source, folder: Path, frames: Path, missing: list[str]
) -> str:
    links = {Path(file).stem: url for file, url, _ in dataset_class(source).resource_url_md5()}
    wanted = [f"{group}.zip from {links[group]}" for group in missing if group in links]
    others = [path.name for path in sorted(folder.glob("frames_number_*_split_by_number"))]
    here = f" ({', '.join(others)} cannot replace {frames.name})" if others else ""
    if frames.is_dir():
        here = f" ({frames.name} has {count_files(source, frames):,} of {source.samples:,} samples)"
    return (
        f"{name} in {folder} lacks the recordings of {', '.join(missing)}{here}; put "
        f"{', '.join(wanted) or 'them'} into {folder / 'download'}, or folders of .aedat files "
        f"into {folder / 'extract'}"
    )
