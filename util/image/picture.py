"""Picture files of every kind as 8 bits of red, green and blue: what all networks see.

    8 bits or 1, palettes, CMYK     as Pillow converts them to RGB
    16 bits                         their upper 8 (colour of a PPM: the nearest); TIFF's 12 likewise
    32 bits and floating point      refused: the file does not say what is black and what is white
    transparent                     laid on white
    animated                        the first frame
    EXIF orientation                applied, so that a photo stands as a viewer shows it

The published training ignored the orientation: the few photos of ImageNet that have one lay on
their side.

torchvision decodes JPEG and PNG files faster than Pillow, to the same pixels as long as nothing is
to be turned, transparent, of a palette or of 16 bits. A look at the header tells.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2.functional import pil_to_tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

# What Pillow raises for files that are missing, damaged or of another kind: of a broken PNG a
# SyntaxError, of a broken TIFF also a TypeError.
UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError)

BACKGROUND = "white"
# By what Pillow multiplies gray of 2 and 4 bits, but not the transparent gray of a PNG.
GRAY_STEPS = {"L;2": 85, "L;4": 17}
# How a picture is turned that was stored with an orientation; 1, the other one, is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

JPEG_SIGNATURE, JPEG_PIXELS = b"\xff\xd8\xff", b"\xff\xda"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Bits, kind of colour (gray or RGB), compression, filter, no interlace.
ORDINARY_PNG = (b"\x08\x00\x00\x00\x00", b"\x08\x02\x00\x00\x00")
# The others may hold transparency, further frames or an orientation.
PIXEL_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tIME"}


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file: RGB, upright and opaque.

    Raises: one of UNREADABLE.
    """
    with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        if image.format == "PNG" and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= GRAY_STEPS.get(image.tile[0].args, 1)
        image.load()  # which turns a TIFF, and takes its orientation away
        pixels = opaque(with_8_bits(image))
        turn = TURNS.get(orientation(image))
    return pixels if turn is None else pixels.transpose(turn)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 where there is none or the tags are damaged."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow has many for bad tags, which are no fault of the pixels
        return 1


def with_8_bits(image: Image.Image) -> Image.Image:
    """The image, of more bits their upper 8; Pillow does that for colour and cuts gray off at 255.

    Raises: ValueError for pixels whose range the file does not say.
    """
    in_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")
    if image.mode in ("I", "F") and not in_16_bits:
        raise ValueError(
            f"pixels of mode {image.mode}, whose range is unknown: save it with 8 or 16 bits"
        )
    colour = image.info.get("transparency")  # a colour, or the bytes of a palette
    if colour is not None and (in_16_bits or (isinstance(colour, tuple) and max(colour) > 255)):
        raise ValueError("a transparent colour of 16 bits: save it with 8 bits")
    if not in_16_bits:
        return image
    tags = image.tag_v2 if image.format == "TIFF" else {}
    (bits,) = tags.get(ExifTags.Base.BitsPerSample, (16,))
    values = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    white_is_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return Image.fromarray(255 - values if white_is_zero else values)


def opaque(image: Image.Image) -> Image.Image:
    """The image in RGB, laid on BACKGROUND where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def read_picture_tensor(path: str | Path) -> Tensor:
    """The pixels of `read_picture` as uint8 (3, H, W).

    Raises: one of UNREADABLE.
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


def reason_of(error: BaseException) -> str:
    """Why a picture cannot be read, without its name."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no image of a known kind, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
