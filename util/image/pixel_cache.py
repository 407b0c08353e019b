"""The file of decoded pictures: made once, taken only as long as it is theirs and whole.

A digest of the pixels, one of all that decided them, then the pixels as they lie in memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL

from util.file.atomic import write_atomically
from util.image.files import ImageFiles
from util.image.picture_folder import PictureOptions

VERSION = 1  # of this file and of util.image.fitting
DIGEST = 32  # bytes of each of the two


class PixelCache(NamedTuple):
    """path: of the file; key: the digest of what decides the pixels; count, side: of pictures."""

    path: Path
    key: bytes
    count: int
    side: int

    @classmethod
    def of(
        cls, folder: Path, signature: bytes, count: int, options: PictureOptions, cache: Path
    ) -> PixelCache:
        """That of the pictures in `folder`, with their signature, as the options have them read.

        The name is hidden: beside the pictures the file is no data. Where they have moved it is
        still theirs, if the times of the files were kept.
        """
        side, channels = options.image_size, options.channels
        decoder = repr((VERSION, PIL.__version__, side, channels)).encode()
        name = f".{folder.absolute().name}-{side}px-{channels or 'any'}.pixels"
        return cls(cache / name, digest_of(signature + decoder), count, side)

    def read(self) -> np.ndarray | None:
        """The pixels (N, C, H, W); None if the file is not there, of others, or damaged."""
        try:
            with open(self.path, "rb") as file:
                found, key = file.read(DIGEST), file.read(DIGEST)
                content = np.fromfile(file, np.uint8) if key == self.key else None
        except OSError:
            return None
        if content is None or digest_of(content) != found:
            return None
        return content.reshape(self.count, -1, self.side, self.side)

    def write(self, pixels: np.ndarray) -> None:
        """Put the file there, or in the place of a stale one. Raises: OSError."""
        flat = pixels.reshape(-1)
        head = np.frombuffer(digest_of(flat) + self.key, np.uint8)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, memoryview(np.concatenate([head, flat])))


def digest_of(content: bytes | np.ndarray) -> bytes:
    return blake2b(content, digest_size=DIGEST).digest()


def signature_of(files: Sequence[ImageFiles]) -> tuple[bytes, int, int]:
    """A digest of the names, sizes and times of all files, their number, and their bytes."""
    digest, bytes_in_all = blake2b(digest_size=DIGEST), 0
    for part in files:
        for index, name in enumerate(part.names):
            try:
                status = os.stat(part.path(index))
                size, time = status.st_size, status.st_mtime_ns
            except OSError:  # who reads it says so
                size = time = 0
            digest.update(b"%s\0%d\0%d\0" % (name, size, time))
            bytes_in_all += size
        digest.update(b"\0")
    return digest.digest(), sum(map(len, files)), bytes_in_all
