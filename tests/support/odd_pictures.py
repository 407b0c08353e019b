"""Picture files of every kind, small, with the pixels that a network is to see."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 6, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (5, 6), dtype=np.uint8)
BITS = GRAY > 127
ALPHA = np.where(BITS, 255, 0).astype(np.uint8)  # transparent where GRAY is dark
ON_WHITE = np.where(BITS[..., None], RGB, 255).astype(np.uint8)
GRAY_ON_WHITE = np.where(BITS, GRAY, 255).astype(np.uint8)
DEEP, DEEP_RGB = (pixels.astype(np.uint16) * 256 + 200 for pixels in (GRAY, RGB))
# What a viewer does to a stored array, by EXIF orientation.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def saved(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(pixels: np.ndarray, bits: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """What Pillow does not write: 16, 4 or 2 bits, and any chunks before the pixels."""
    height, width = pixels.shape[:2]
    kind = ">u2" if bits == 16 else "u1"
    if bits < 8:
        digits = pixels[..., None] >> np.arange(bits)[::-1] & 1
        packed = np.packbits(digits.reshape(height, -1), axis=1)
    else:
        packed = pixels.astype(kind)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


def tiff(data: bytes, *, bits: int, black: int = 1) -> bytes:
    """Gray pixels as they are; black: the photometric interpretation, 0 if black is highest."""
    height, width = GRAY.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: black}
    tags |= {273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def in_12_bits(pixels: np.ndarray) -> bytes:
    pairs = (pixels.astype(np.uint32) << 4).reshape(-1, 2)
    return b"".join(int(a << 12 | b).to_bytes(3) for a, b in pairs)


def palette() -> Image.Image:
    """Index k has the colour (k, 255 - k, 7)."""
    image = Image.fromarray(GRAY).convert("L")
    image.putpalette([value for k in range(256) for value in (k, 255 - k, 7)])
    return image


def jpeg(**options) -> bytes:
    return saved(RGB, "JPEG", quality=90, **options)


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def decoded(content: bytes) -> np.ndarray:
    """As the published code decodes JPEG files."""
    return np.asarray(Image.open(BytesIO(content)).convert("RGB"))


def rgb_of(gray: np.ndarray) -> np.ndarray:
    return np.repeat(gray[..., None], 3, axis=-1)


COLOURS = np.stack([GRAY, 255 - GRAY, np.full_like(GRAY, 7)], -1)
LAYERED = np.dstack([RGB, ALPHA])
FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (6, 5), "red")], "duration": 9}
CMYK = Image.fromarray(np.dstack([255 - RGB, np.zeros_like(GRAY)]), mode="CMYK")
LEVELS = np.array([[0, 1, 512, 1023]])  # of 10 bits
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0" + XMP
TURNED_BY_XMP = jpeg()[:2] + struct.pack(">HH", 0xFFE1, 2 + len(XMP_SEGMENT)) + XMP_SEGMENT
TURNED_BY_XMP += jpeg()[2:]

OPAQUE = np.dstack([RGB, np.full_like(GRAY, 255)])
DEEP_LAYERED = np.dstack([DEEP_RGB, ALPHA.astype(np.uint16) * 257])
DEEP_PPM = b"P6 6 5 65535\n" + (RGB * np.uint16(257)).astype(">u2").tobytes()
TEN_BITS = b"P5 4 1 1023\n" + LEVELS.astype(">u2").tobytes()
WHITE_IS_ZERO = tiff(DEEP.astype("<u2").tobytes(), bits=16, black=0)
FADED = np.full((5, 6, 4), (10, 20, 30, 51), np.uint8)
PALETTE_ALPHA = Image.merge("PA", (palette().getchannel(0), Image.fromarray(ALPHA)))
HALF_OF_PALETTE = saved(palette(), "PNG", transparency=bytes(128) + b"\xff" * 128)
FIRST_OF_PALETTE = saved(palette(), "GIF", transparency=int(GRAY[0, 0]))
BAD_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"


def transparent(*colour: int) -> tuple[bytes, bytes]:
    """The chunk of a PNG file that makes one colour transparent."""
    return b"tRNS", struct.pack(f">{len(colour)}H", *colour)


def white_where(mask: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    return np.where(mask, 255, pixels).astype(np.uint8)


def gray_of(bits: int) -> tuple[bytes, np.ndarray]:
    """A gray file of few bits whose level 1 is transparent, and what is seen of it."""
    levels, step = GRAY >> 8 - bits, 255 // (2**bits - 1)
    return png(levels, bits, 0, transparent(1)), rgb_of(white_where(levels == 1, levels * step))


BLACK, FIRST, FIRST_RGB = ALPHA[..., None] == 0, GRAY[0, 0], RGB[0, 0]
ON_FIRST, ON_FIRST_RGB = FIRST == GRAY, (FIRST_RGB == RGB).all(-1, keepdims=True)

# File name: (content, RGB pixels).
PICTURES: dict[str, tuple[bytes, np.ndarray]] = {
    "rgb.png": (saved(RGB, "PNG"), RGB),
    "really_png.JPEG": (saved(RGB, "PNG"), RGB),
    "rgb.bmp": (saved(RGB, "BMP"), RGB),
    "rgb.ppm": (saved(RGB, "PPM"), RGB),
    "rgb.tif": (saved(RGB, "TIFF"), RGB),
    "rgb.webp": (saved(RGB, "WEBP", lossless=True), RGB),
    "cmyk.tif": (saved(CMYK, "TIFF"), RGB),
    "rgb16.png": (png(DEEP_RGB, 16, 2), RGB),
    "rgb16.ppm": (DEEP_PPM, RGB),
    "gray.png": (saved(GRAY, "PNG"), rgb_of(GRAY)),
    "gray.pgm": (saved(GRAY, "PPM"), rgb_of(GRAY)),
    "gray10.pgm": (TEN_BITS, rgb_of(np.array([[0, 0, 128, 255]], dtype=np.uint8))),
    "gray12.tif": (tiff(in_12_bits(GRAY), bits=12), rgb_of(GRAY)),
    "gray16.png": (saved(DEEP, "PNG"), rgb_of(GRAY)),
    "gray16.tif": (saved(DEEP, "TIFF"), rgb_of(GRAY)),
    "gray16.pgm": (b"P5 6 5 65535\n" + DEEP.astype(">u2").tobytes(), rgb_of(GRAY)),
    "gray16_white_is_zero.tif": (WHITE_IS_ZERO, rgb_of(255 - GRAY)),
    "bits.png": (saved(BITS, "PNG"), rgb_of(ALPHA)),
    "bits.tif": (saved(BITS, "TIFF"), rgb_of(ALPHA)),
    "palette.png": (saved(palette(), "PNG"), COLOURS),
    "palette.gif": (saved(palette(), "GIF"), COLOURS),
    "palette.bmp": (saved(palette(), "BMP"), COLOURS),
    "rgba.png": (saved(LAYERED, "PNG"), ON_WHITE),
    "rgba.tif": (saved(LAYERED, "TIFF"), ON_WHITE),
    "rgba.webp": (saved(LAYERED, "WEBP", lossless=True, exact=True), ON_WHITE),
    "rgba16.png": (png(DEEP_LAYERED, 16, 6), ON_WHITE),
    "opaque.png": (saved(OPAQUE, "PNG"), RGB),
    "half.png": (saved(FADED, "PNG"), np.full((5, 6, 3), (206, 208, 210), np.uint8)),
    "gray_alpha.png": (saved(np.dstack([GRAY, ALPHA]), "PNG"), rgb_of(GRAY_ON_WHITE)),
    "palette_alpha.tif": (saved(PALETTE_ALPHA, "TIFF"), white_where(BLACK, COLOURS)),
    "palette_transparent.png": (HALF_OF_PALETTE, white_where(BLACK, COLOURS)),
    "palette_transparent.gif": (FIRST_OF_PALETTE, white_where(ON_FIRST[..., None], COLOURS)),
    "gray_transparent.png": (
        png(GRAY, 8, 0, transparent(FIRST)),
        rgb_of(white_where(ON_FIRST, GRAY)),
    ),
    "gray2_transparent.png": gray_of(2),
    "gray4_transparent.png": gray_of(4),
    "rgb_transparent.png": (
        png(RGB, 8, 2, transparent(*FIRST_RGB)),
        white_where(ON_FIRST_RGB, RGB),
    ),
    "animated.gif": (saved(palette(), "GIF", **FRAMES), COLOURS),
    "animated.webp": (saved(RGB, "WEBP", lossless=True, **FRAMES), RGB),
    "animated.png": (saved(RGB, "PNG", **FRAMES), RGB),
    "turned.png": (saved(RGB, "PNG", exif=with_exif(6)), TURNS[6](RGB)),
    "turned.tif": (saved(RGB, "TIFF", exif=with_exif(6)), TURNS[6](RGB)),
    "turned.webp": (saved(RGB, "WEBP", lossless=True, exif=with_exif(6)), TURNS[6](RGB)),
    "turned_by_xmp.jpg": (TURNED_BY_XMP, TURNS[6](decoded(jpeg()))),
    "bad_exif.jpg": (jpeg(exif=BAD_EXIF), decoded(jpeg())),
    "no_exif.jpg": (jpeg(exif=b"Exif\0\0nothing"), decoded(jpeg())),
}
for number, turn in TURNS.items():
    PICTURES[f"turned_{number}.jpg"] = jpeg(exif=with_exif(number)), turn(decoded(jpeg()))
DECODED = {  # as the published code decodes them
    "rgb.jpg": jpeg(),
    "progressive.JPG": jpeg(progressive=True),
    "gray.jpeg": saved(GRAY, "JPEG"),
    "cmyk.jpg": saved(CMYK, "JPEG"),
}
PICTURES |= {name: (content, decoded(content)) for name, content in DECODED.items()}

# File name: (content, what is said about it).
OF_16_BITS = "a transparent colour of 16 bits"
REFUSED: dict[str, tuple[bytes, str]] = {
    "float.tif": (saved(GRAY.astype(np.float32), "TIFF"), "mode F, whose range is unknown"),
    "int32.tif": (saved(GRAY.astype(np.int32), "TIFF"), "mode I, whose range is unknown"),
    "gray16_transparent.png": (png(DEEP, 16, 0, transparent(0)), OF_16_BITS),
    "rgb16_transparent.png": (png(DEEP_RGB, 16, 2, transparent(*DEEP_RGB[0, 0])), OF_16_BITS),
    "text.png": (b"<html>404</html>", "no image of a known kind, or damaged"),
    "torn.png": (saved(RGB, "PNG")[:70], "truncated"),
    "torn.jpg": (jpeg()[:-30], "truncated"),
}
