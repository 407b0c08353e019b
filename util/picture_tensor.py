"""Pictures as tensors: the pixels of util.picture, by a faster decoder where it gives the same.

torchvision decodes JPEG and PNG files faster than Pillow, to the same pixels as long as nothing is
to be turned, transparent, of a palette or of 16 bits. A look at the header tells.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

from util.picture import TURNS, UNREADABLE, orientation, read_picture

JPEG_SIGNATURE, JPEG_PIXELS = b"\xff\xd8\xff", b"\xff\xda"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bits, kind of colour (gray or RGB), compression, filter, no interlace.
ORDINARY_PNG = (b"\x08\x00\x00\x00\x00", b"\x08\x02\x00\x00\x00")
# The others may hold transparency, further frames or an orientation.
PIXEL_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tIME"}


def read_picture_tensor(path: str | Path) -> Tensor:
    """The pixels of `read_picture` as uint8 (3, H, W).

    Raises: one of util.picture.UNREADABLE.
    """
    content = Path(path).read_bytes()
    if is_ordinary(content):
        with suppress(RuntimeError):  # of a damaged file: Pillow decides whether it can be read
            encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            return decode_image(encoded, mode=ImageReadMode.RGB)
    return pil_to_tensor(read_picture(path))


def is_ordinary(content: bytes) -> bool:
    """Whether both decoders give the same pixels of a file; False where that is not sure."""
    if content.startswith(JPEG_SIGNATURE):
        header = header_of_jpeg(content)
        tagged = b"Exif\0" in header or b"tiff:Orientation" in header
        return not tagged or is_upright(content)
    return (
        content.startswith(PNG_SIGNATURE)
        and content[24:29] in ORDINARY_PNG
        and PIXEL_CHUNKS.issuperset(chunks_of_png(content))
    )


def is_upright(content: bytes) -> bool:
    """Whether Pillow finds no orientation, or that of a picture that stands upright."""
    with warnings.catch_warnings(action="ignore"):
        try:
            return orientation(Image.open(BytesIO(content))) not in TURNS
        except UNREADABLE:
            return False


def header_of_jpeg(content: bytes) -> bytes:
    """What comes before the pixels; everything if the segments are not as they should be."""
    position = 2
    while (marker := content[position : position + 2])[:1] == b"\xff":
        if marker == JPEG_PIXELS:
            return content[:position]
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
    return content


def chunks_of_png(content: bytes) -> Iterator[bytes]:
    """The kinds of its chunks, in order."""
    position = len(PNG_SIGNATURE)
    while position < len(content):
        yield content[position + 4 : position + 8]
        position += 12 + int.from_bytes(content[position : position + 4])
