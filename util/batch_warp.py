"""The geometric AutoAugment operations on whole batches, pixel for pixel those of PIL.

Translations and the rotation take each pixel from one other pixel. Which one is asked of the
per-image operation itself, once for every setting: it is given an image whose pixels hold their
positions. The shears blend four pixels; they are computed as Pillow 13 does (Geometry.c).

Shapes: B batch, C channels, H x W pixels, both 256 at most. Images are uint8 (B, C, H, W).
A setting is 2 level + (sign > 0), int64 (B,), on the device of the images.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from util.image_augment import GRAY, HIGHEST_LEVEL, apply_operation, magnitude_of

SETTINGS = [(level, sign) for level in range(HIGHEST_LEVEL + 1) for sign in (-1, 1)]
INSIDE = 255  # the third channel of an image of positions; anything but GRAY


def translate_x(images: Tensor, settings: Tensor) -> Tensor:
    return _take(images, "translateX", settings)


def translate_y(images: Tensor, settings: Tensor) -> Tensor:
    return _take(images, "translateY", settings)


def rotate(images: Tensor, settings: Tensor) -> Tensor:
    return _take(images, "rotate", settings)


def _take(images: Tensor, name: str, settings: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    sources = _sources(name, height, width, images.device)[settings].unsqueeze(1)  # (B, 1, HW)
    pixels = images.flatten(2)
    taken = pixels.gather(2, sources.clamp(min=0).expand_as(pixels))
    return torch.where(sources < 0, GRAY, taken).view_as(images)


@lru_cache
def _sources(name: str, height: int, width: int, device: torch.device) -> Tensor:
    """(settings, H*W) int64: from which pixel each one is taken; -1 where there is none."""
    assert max(height, width) <= 256, (height, width)
    rows = torch.arange(height).view(-1, 1).expand(height, width)
    columns = torch.arange(width).expand(height, width)
    positions = torch.stack([rows, columns, torch.full_like(rows, INSIDE)]).to(torch.uint8)
    moved = [apply_operation(positions, name, level, sign).long() for level, sign in SETTINGS]
    sources = [
        torch.where(inside == INSIDE, row * width + column, -1) for row, column, inside in moved
    ]
    return torch.stack(sources).flatten(1).to(device)


def shear_y(images: Tensor, settings: Tensor) -> Tensor:
    """Slide each column by its distance from the left edge times the magnitude."""
    return _slide_columns(images, _slopes("shearY", images.device)[settings])


def shear_x(images: Tensor, settings: Tensor) -> Tensor:
    """Slide each row by its distance from the top edge times the magnitude."""
    slopes = _slopes("shearX", images.device)[settings]
    return _slide_columns(images.mT, slopes).mT.contiguous()


@lru_cache
def _slopes(name: str, device: torch.device) -> Tensor:
    """The magnitudes (settings,) float64 as they are after torchvision's way through degrees.

    The last bit counts: a shift by a whole number of pixels, or by a trifle less, is cut off to
    another grey value.
    """
    angles = [
        math.radians(math.degrees(math.atan(magnitude_of(name, level, sign))))
        for level, sign in SETTINGS
    ]
    slopes = [math.tan(a) if name == "shearX" else math.sin(a) / math.cos(a) for a in angles]
    return torch.tensor(slopes, dtype=torch.float64).to(device)


def _slide_columns(images: Tensor, slopes: Tensor) -> Tensor:
    """Column x moved up by slope (x + 1/2) pixels, interpolated cubically.

    Cubic convolution with a = -1 (Keys, IEEE Trans. ASSP 29(6), 1981), in float64, cut off. Beyond
    an edge are the pixels of the edge, and gray from half a pixel on.
    """
    height, width = images.shape[-2:]
    centres = {"dtype": torch.float64, "device": images.device}
    x, y = torch.arange(width, **centres) + 0.5, torch.arange(height, **centres) + 0.5
    place = (slopes.view(-1, 1, 1) * x + y.view(-1, 1)).unsqueeze(1)  # (B, 1, H, W)
    outside = (place < 0) | (place >= height)
    place = place - 0.5
    row = place.floor()
    share = place - row
    taps = []
    for step in (-1, 0, 1, 2):
        rows = (row.long() + step).clamp(0, height - 1)
        taps.append(images.gather(2, rows.expand_as(images)).double())
    v1, v2, v3, v4 = taps
    cubic = -v1 + v2 - v3 + v4
    square = 2 * (v1 - v2) + v3 - v4
    value = v2 + share * (v3 - v1 + share * (square + share * cubic))
    return torch.where(outside, GRAY, value.clamp_(0, 255).to(torch.uint8))
