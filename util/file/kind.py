"""What kind of file something is, by its content: names and suffixes may be wrong.

For sentences about a file that was given in place of another; who reads a kind verifies the rest.
"""

from __future__ import annotations

import codecs
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

HEAD = 4096  # bytes that tell


class Kind(StrEnum):
    """The kinds that are told apart; the value says it to a person."""

    TORCH = "a file of torch.save, as checkpoints are"
    SAFETENSORS = "a safetensors file, as exports have"
    PROGRAM = "a torch.export program, as exports have"
    ONNX = "an ONNX model, as exports have"
    HDF5 = "an HDF5 file, as NIR graphs are"
    ARRAYS = "a file of NumPy arrays"
    RECORDING = "a recording of events"
    PICTURE = "a picture"
    ARCHIVE = "an archive"
    TEXT = "a text file"


STARTS = {
    b"\x89PNG\r\n\x1a\n": Kind.PICTURE,
    b"\xff\xd8\xff": Kind.PICTURE,  # JPEG
    b"GIF8": Kind.PICTURE,
    b"II*\0": Kind.PICTURE,  # TIFF, of either order of bytes
    b"MM\0*": Kind.PICTURE,
    b"\x08\x0a\x12\x07pytorch": Kind.ONNX,  # its version of the format, and who wrote it
    b"\x89HDF\r\n\x1a\n": Kind.HDF5,
    b"\x93NUMPY": Kind.ARRAYS,
    b"#!AER-DAT": Kind.RECORDING,
    b"\x1f\x8b": Kind.ARCHIVE,  # gzip
}


def kind_of_file(path: Path) -> Kind | None:
    """The kind of a file; None if it is none of these, too damaged to tell, or not to be read."""
    if not path.is_file():  # a pipe would be waited for
        return None
    try:
        with path.open("rb") as file:
            return kind_of_content(file)
    except OSError:
        return None


def kind_of_content(file: BinaryIO) -> Kind | None:
    """The kind of a file that is open at its beginning."""
    head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(file)
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind.PICTURE
    # The length of a header, eight bytes, least first, and then the header in JSON.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return Kind.SAFETENSORS
    return Kind.TEXT if _is_text(head) else None


def _kind_of_zip(file: BinaryIO) -> Kind | None:
    """What the names in a zip archive say; None if its directory cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except Exception:  # a damaged archive makes zipfile raise far more than BadZipFile
        return None
    if any(name.endswith("/archive_format") for name in names):
        return Kind.PROGRAM
    if any(name.endswith("/data.pkl") for name in names):
        return Kind.TORCH
    if names and all(name.endswith(".npy") for name in names):
        return Kind.ARRAYS
    return Kind.ARCHIVE


def _is_text(head: bytes) -> bool:
    """Whether there are characters alone, but for one that the end of `head` has cut."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return False
    return bool(text) and all(character.isprintable() or character.isspace() for character in text)
