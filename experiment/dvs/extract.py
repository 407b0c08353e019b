"""Archives of N-MNIST and DVS128 Gesture -> event arrays, by spikingjelly's own functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from torchvision.datasets.utils import check_integrity

from experiment.dvs.recordings import refuse_unfinished
from experiment.dvs.source import Source

RESULT = "events_np"  # where spikingjelly's classes expect the arrays


def extract_events(name: str, source: Source, folder: Path, report: Callable[[str], None]) -> None:
    """Fill `folder`/events_np from the published archives, unless it is there.

    The work is done in a folder beside it, which takes the name at the end: an interrupted call
    leaves nothing that looks whole, and the next one starts again.

    Raises: FileNotFoundError for a missing archive; ValueError for a damaged one, or for arrays
    that spikingjelly did not finish.
    """
    from spikingjelly import datasets

    refuse_unfinished(folder / RESULT)
    if (folder / RESULT).is_dir():
        return
    dataset_class = getattr(datasets, source.spikingjelly_class)
    archives = _find_archives(name, dataset_class.resource_url_md5(), folder)
    staging = folder / f"{RESULT}.incomplete"
    shutil.rmtree(staging, ignore_errors=True)
    download, extracted, arrays = (staging / part for part in ("download", "extract", RESULT))
    for part in (download, extracted, arrays):
        part.mkdir(parents=True)
    for archive in archives:
        (download / archive.name).symlink_to(archive.resolve())
    report(f"unpacking {', '.join(archive.name for archive in archives)} (no progress is shown)")
    dataset_class.extract_downloaded_files(download, extracted)
    dataset_class.create_raw_from_extracted(extracted, arrays)
    arrays.rename(folder / RESULT)
    shutil.rmtree(staging)


def _find_archives(name: str, resources: list[tuple[str, str, str]], folder: Path) -> list[Path]:
    """The archives in `folder` or `folder`/download, their checksums compared."""
    found, missing = [], []
    for file, url, md5 in resources:
        places = [folder / "download" / file, folder / file]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            missing.append(f"{file} from {url}")
        elif not check_integrity(path, md5):
            raise ValueError(f"{path} is damaged (wrong md5 sum): fetch it again")
        else:
            found.append(path)
    if missing:
        raise FileNotFoundError(
            f"{name} is not in {folder}: put {', '.join(missing)} into {folder / 'download'}"
        )
    return found
