"""The AutoAugment operations on whole batches, pixel for pixel those of util.image_augment.

There each image goes through PIL; here a batch of uint8 tensors stays on its device, and the same
numbers come out. That takes PIL's arithmetic (Pillow 13, sources of ImageEnhance, ImageOps, Blend,
Filter and Convert): which results are cut off and which rounded, and float32 or float64 where the
last bit decides. Every product and sum is a kernel of its own, so no device may contract them.

Shapes: B batch, C channels (1 or 3), H x W pixels. Every image has its own level and sign.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from util.batch_warp import rotate, shear_x, shear_y, translate_x, translate_y
from util.image_augment import HIGHEST_LEVEL, OPERATIONS, magnitude_of

# Of red, green and blue in the grey value, in units of 2**-16 (ITU-R BT.601).
LUMA, LUMA_BITS = (19595, 38470, 7471), 16


def apply_operation_to_batch(images: Tensor, name: str, levels: Tensor, signs: Tensor) -> Tensor:
    """`util.image_augment.apply_operation` of each image with its level and sign.

    Shapes: images (B, C, H, W) uint8; levels (0..9) and signs (-1 or 1) both (B,) int64 on the
    device of the images, not checked. H and W are 256 at most.
    """
    assert images.dtype == torch.uint8, images.dtype
    settings = 2 * levels + (signs > 0)
    if name in WARPS:
        return WARPS[name](images, settings)
    magnitudes = _magnitudes(name, images.device)[settings]
    return PIXEL_OPERATIONS[name](images, magnitudes.view(-1, 1, 1, 1))


@lru_cache
def _magnitudes(name: str, device: torch.device) -> Tensor:
    """float64; entry 2 level + (sign > 0)."""
    values = [magnitude_of(name, k, sign) for k in range(HIGHEST_LEVEL + 1) for sign in (-1, 1)]
    return torch.tensor(values, dtype=torch.float64).to(device)


def blend(degenerate: Tensor, images: Tensor, deviation: Tensor) -> Tensor:
    """degenerate + (1 + deviation) (images - degenerate) in float32, cut off to 0..255."""
    base = degenerate.float()
    factor = (1 + deviation).float()
    return (base + (images.float() - base) * factor).clamp_(0, 255).to(torch.uint8)


def grey(images: Tensor) -> Tensor:
    """Luminance (B, 1, H, W) int32, rounded; of one channel, the channel."""
    if images.shape[1] == 1:
        return images.int()
    parts = [weight * images[:, [c]].int() for c, weight in enumerate(LUMA)]
    return (sum(parts) + (1 << LUMA_BITS - 1)) >> LUMA_BITS


def color(images: Tensor, deviation: Tensor) -> Tensor:
    return blend(grey(images), images, deviation)


def contrast(images: Tensor, deviation: Tensor) -> Tensor:
    """Away from the image's mean grey value, rounded."""
    values = grey(images).flatten(1)
    count = values.shape[1]
    mean = (2 * values.sum(1) + count).div(2 * count, rounding_mode="floor")
    return blend(mean.view(-1, 1, 1, 1), images, deviation)


def brightness(images: Tensor, deviation: Tensor) -> Tensor:
    return blend(torch.zeros_like(images), images, deviation)


def sharpness(images: Tensor, deviation: Tensor) -> Tensor:
    """Away from a 3 x 3 mean with the centre counted five times; the border stays as it is."""
    height, width = images.shape[-2:]
    values = images.short()
    total = 4 * values[..., 1:-1, 1:-1]
    for row in range(3):
        for column in range(3):
            total = total + values[..., row : height - 2 + row, column : width - 2 + column]
    smooth = values.clone()
    smooth[..., 1:-1, 1:-1] = (2 * total + 13).div(26, rounding_mode="floor")
    return blend(smooth, images, deviation)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits."""
    dropped = 2.0 ** (8 - bits.round())
    return images & (256 - dropped).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert from the threshold on."""
    return torch.where(images < threshold.ceil().short(), images, 255 - images)


def autocontrast(images: Tensor, _: Tensor) -> Tensor:
    """Stretch each channel's values to 0..255, in float64, cut off."""
    low = images.amin((2, 3), keepdim=True).double()
    high = images.amax((2, 3), keepdim=True).double()
    # Divided as such: torch takes 255 / x for 255 times 1 / x, which rounds twice.
    scale = torch.full_like(low, 255).div_((high - low).clamp_(min=1))
    stretched = (images * scale + -low * scale).clamp_(0, 255).to(torch.uint8)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor, _: Tensor) -> Tensor:
    """Spread each channel's values so that equal ranges hold about equally many pixels."""
    values = images.flatten(2).long()
    counts = values.new_zeros(*values.shape[:2], 256)
    counts.scatter_add_(2, values, torch.ones_like(values))
    of_highest = counts.gather(2, values.amax(2, keepdim=True))
    step = (values.shape[2] - of_highest).div(255, rounding_mode="floor")
    below = counts.cumsum(2) - counts
    table = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    equalized = table.gather(2, values).to(torch.uint8).view_as(images)
    return torch.where(step.unsqueeze(3) > 0, equalized, images)


def invert(images: Tensor, _: Tensor) -> Tensor:
    return 255 - images


# images (B, C, H, W) uint8, magnitudes (B, 1, 1, 1) float64 -> images
PIXEL_OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
    "invert": invert,
}
# images (B, C, H, W) uint8, settings (B,) int64 -> images
WARPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "shearX": shear_x,
    "shearY": shear_y,
    "translateX": translate_x,
    "translateY": translate_y,
    "rotate": rotate,
}
assert PIXEL_OPERATIONS.keys() | WARPS.keys() == OPERATIONS.keys()
