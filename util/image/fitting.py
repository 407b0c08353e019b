"""How a picture is fitted to a network: its shorter side resized, and the centre cut out.

Training on folders of pictures and prediction both come here, so that they see the same pixels.
"""

from __future__ import annotations

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

MODES = {1: "L", 3: "RGB"}  # by the number of channels


def fitted(picture: Image.Image, *, resize: int, side: int, channels: int) -> Tensor:
    """The centre of a picture as (channels, side, side) uint8, its shorter side `resize` pixels.

    Raises: ValueError for a number of channels that is not 1 (gray) or 3 (RGB).
    """
    if channels not in MODES:
        raise ValueError(f"the network takes {channels} channels: expected 1 (gray) or 3 (RGB)")
    pixels = transforms.resize(picture.convert(MODES[channels]), [resize], antialias=True)
    return transforms.pil_to_tensor(transforms.center_crop(pixels, [side, side]))
