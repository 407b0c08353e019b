"""N-MNIST and DVS128 Gesture as published -> event arrays, by spikingjelly's own functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.utils import check_integrity

from experiment.dvs.recording.groups import refuse_unfinished
from experiment.dvs.recording.source import Store
from experiment.dvs.recording.unpacked import find_unpacked, link_files, refuse_bad_files

EVENTS = "events_np"  # where spikingjelly's classes expect the arrays


class Published(NamedTuple):
    """What arrays are made from: archives with their md5 sums, or the folder of unpacked ones."""

    archives: dict[Path, str]
    unpacked: Path | None = None


def extract_events(store: Store, report: Callable[[str], None]) -> None:
    """Fill the cache's events_np from what was published, unless the arrays are there.

    The work is done in a folder beside the result, which takes the name at the end: an interrupted
    call leaves nothing that looks whole, and the next one starts again.

    Raises: FileNotFoundError for missing files; ValueError for damaged ones, or for arrays that
    spikingjelly did not finish.
    """
    published = find_published(store)
    if published is None:
        return
    archives, unpacked = published
    for archive, md5 in archives.items():
        if not check_integrity(archive, md5):
            raise ValueError(f"{archive} is damaged (wrong md5 sum): fetch it again")
    if unpacked is not None:
        refuse_bad_files(store.source, unpacked)
    dataset_class, cache = store.source.dataset_class, store.cache
    staging = cache / f"{EVENTS}.incomplete"
    shutil.rmtree(staging, ignore_errors=True)
    download, extracted, arrays = (staging / part for part in ("download", "extract", EVENTS))
    for part in (download, extracted, arrays):
        part.mkdir(parents=True)
    if unpacked is None:
        for archive in archives:
            (download / archive.name).symlink_to(archive.resolve())
        names = ", ".join(archive.name for archive in archives)
        report(f"unpacking {names} (no progress is shown)")
        dataset_class.extract_downloaded_files(download, extracted)
    else:
        report(f"reading the recordings in {unpacked} (no progress is shown)")
        link_files(store.source, unpacked, extracted)
    dataset_class.create_raw_from_extracted(extracted, arrays)
    arrays.rename(cache / EVENTS)
    shutil.rmtree(staging)


def find_published(store: Store) -> Published | None:
    """The archives, in the data set's folder or download/ in it, or else what they hold.

    None if the arrays are there. Raises: as `extract_events`, but no file is read.
    """
    source, folder, cache = store
    for place in (folder, cache):
        refuse_unfinished(place / EVENTS)
        if (place / EVENTS).is_dir():
            return None
    found, missing = {}, []
    for file, (url, md5) in source.archives.items():
        places = [folder / "download" / file, folder / file]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            missing.append(f"{file} from {url}")
        else:
            found[path] = md5
    if not missing:
        return Published(found)
    unpacked = find_unpacked(source, folder)
    if unpacked is None:
        raise FileNotFoundError(
            f"{source.name} is not in {folder}: put {', '.join(missing)} into "
            f"{folder / 'download'}, or the unpacked {' and '.join(source.unpacked)} into "
            f"{folder / 'extract'}"
        )
    return Published({}, unpacked)
