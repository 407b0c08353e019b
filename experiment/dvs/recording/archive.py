"""Archives of N-MNIST and DVS128 Gesture -> event arrays, by spikingjelly's own functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from torchvision.datasets.utils import check_integrity

from experiment.dvs.recording.groups import refuse_unfinished
from experiment.dvs.recording.source import Store

EVENTS = "events_np"  # where spikingjelly's classes expect the arrays


def extract_events(store: Store, report: Callable[[str], None]) -> None:
    """Fill the cache's events_np from the published archives, unless the arrays are there.

    The work is done in a folder beside the result, which takes the name at the end: an interrupted
    call leaves nothing that looks whole, and the next one starts again.

    Raises: FileNotFoundError for a missing archive; ValueError for a damaged one, or for arrays
    that spikingjelly did not finish.
    """
    archives = find_archives(store)
    if not archives:
        return
    for archive, md5 in archives.items():
        if not check_integrity(archive, md5):
            raise ValueError(f"{archive} is damaged (wrong md5 sum): fetch it again")
    dataset_class, cache = store.source.dataset_class, store.cache
    staging = cache / f"{EVENTS}.incomplete"
    shutil.rmtree(staging, ignore_errors=True)
    download, extracted, arrays = (staging / part for part in ("download", "extract", EVENTS))
    for part in (download, extracted, arrays):
        part.mkdir(parents=True)
    for archive in archives:
        (download / archive.name).symlink_to(archive.resolve())
    report(f"unpacking {', '.join(archive.name for archive in archives)} (no progress is shown)")
    dataset_class.extract_downloaded_files(download, extracted)
    dataset_class.create_raw_from_extracted(extracted, arrays)
    arrays.rename(cache / EVENTS)
    shutil.rmtree(staging)


def find_archives(store: Store) -> dict[Path, str]:
    """The archives to unpack, in the data set's folder or download/ in it, with their md5 sums.

    Empty if the arrays are there. Raises: as `extract_events`, but no archive is read.
    """
    source, folder, cache = store
    for place in (folder, cache):
        refuse_unfinished(place / EVENTS)
        if (place / EVENTS).is_dir():
            return {}
    found, missing = {}, []
    for file, (url, md5) in source.archives.items():
        places = [folder / "download" / file, folder / file]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            missing.append(f"{file} from {url}")
        else:
            found[path] = md5
    if missing:
        wanted = ", ".join(missing)
        raise FileNotFoundError(
            f"{source.name} is not in {folder}: put {wanted} into {folder / 'download'}"
        )
    return found
