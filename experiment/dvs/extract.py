"""Archives of N-MNIST and DVS128 Gesture -> event arrays, by spikingjelly's own functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from torchvision.datasets.utils import check_integrity

from experiment.dvs.recordings import refuse_unfinished
from experiment.dvs.source import Source, dataset_class

EVENTS = "events_np"  # where spikingjelly's classes expect the arrays


def extract_events(
    name: str,
    source: Source,
    folder: Path,
    report: Callable[[str], None],
    *,
    cache: Path | None = None,
) -> None:
    """Fill `cache`/events_np from the published archives in `folder`, unless it is in one of them.

    The default of `cache` is `folder`. The work is done in a folder beside the result, which takes
    the name at the end: an interrupted call leaves nothing that looks whole, and the next one
    starts again.

    Raises: FileNotFoundError for a missing archive; ValueError for a damaged one, or for arrays
    that spikingjelly did not finish.
    """
    cache = cache or folder
    archives = find_archives(name, source, folder, cache)
    if not archives:
        return
    for archive, md5 in archives.items():
        if not check_integrity(archive, md5):
            raise ValueError(f"{archive} is damaged (wrong md5 sum): fetch it again")
    staging = cache / f"{EVENTS}.incomplete"
    shutil.rmtree(staging, ignore_errors=True)
    download, extracted, arrays = (staging / part for part in ("download", "extract", EVENTS))
    for part in (download, extracted, arrays):
        part.mkdir(parents=True)
    for archive in archives:
        (download / archive.name).symlink_to(archive.resolve())
    report(f"unpacking {', '.join(archive.name for archive in archives)} (no progress is shown)")
    dataset_class(source).extract_downloaded_files(download, extracted)
    dataset_class(source).create_raw_from_extracted(extracted, arrays)
    arrays.rename(cache / EVENTS)
    shutil.rmtree(staging)


def find_archives(name: str, source: Source, folder: Path, cache: Path) -> dict[Path, str]:
    """The archives to unpack, in `folder` or `folder`/download, with their md5 sums.

    Empty if the arrays are there. Raises: as `extract_events`, but no archive is read.
    """
    for place in (folder, cache):
        refuse_unfinished(place / EVENTS)
        if (place / EVENTS).is_dir():
            return {}
    found, missing = {}, []
    for file, url, md5 in dataset_class(source).resource_url_md5():
        places = [folder / "download" / file, folder / file]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            missing.append(f"{file} from {url}")
        else:
            found[path] = md5
    if missing:
        raise FileNotFoundError(
            f"{name} is not in {folder}: put {', '.join(missing)} into {folder / 'download'}"
        )
    return found
