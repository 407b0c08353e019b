"""Downloading a data set so that it is there whole or not at all.

torchvision downloads, checks md5 sums and unpacks in a temporary folder beside the destination;
only what is complete is renamed into place.
"""

import http.client
import tarfile
import tempfile
import zlib
from pathlib import Path

from torchvision.datasets import VisionDataset

from util.file.named_folder import folder_problem

# Every way in which a download, or the unpacking of what arrived, is known to fail.
FAILURES = (
    OSError,  # no network, no space, no permission; includes urllib's URLError
    RuntimeError,  # torchvision: wrong md5 sum, or no mirror answers
    http.client.HTTPException,
    tarfile.TarError,
    EOFError,
    zlib.error,
)


def fetch(
    dataset_class: type[VisionDataset], folder: Path, *, result: str, archive: Path | None = None
) -> None:
    """Put `result`, a folder inside what `dataset_class` downloads, into `folder`.

    `archive`, where given, is used in place of a download of the same name. When the download
    fails nothing is left behind and one of FAILURES is raised. Several processes may fetch at
    the same time; the first to finish wins. ValueError if nothing can be written into `folder`.
    """
    if (problem := folder_problem(folder)) is not None:
        raise ValueError(
            f"{dataset_class.__name__} would be downloaded or unpacked into {folder}, but "
            f"{problem}: name another folder with --cache_path"
        )
    beside = next(path for path in [folder, *folder.absolute().parents] if path.is_dir())
    staged = tempfile.TemporaryDirectory(
        prefix=".incomplete-download-", dir=beside, ignore_cleanup_errors=True
    )
    with staged as name:
        staging = Path(name)
        if archive is not None:
            (staging / archive.name).symlink_to(archive.resolve())
        dataset_class(staging, download=True)
        (folder / result).parent.mkdir(parents=True, exist_ok=True)
        try:
            (staging / result).rename(folder / result)
        except OSError:
            if not (folder / result).is_dir():
                raise
