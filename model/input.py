"""What images a network takes, checked before its first layer sees them."""

from __future__ import annotations

from torch import Tensor

IMAGES = "images (B, C, H, W)"
FRAMES = "frames (T, B, C, H, W)"


def check_images(x: Tensor, in_channels: int, T: int | None = None) -> None:
    """ValueError unless x is a floating-point (B, C, H, W) or, with T, also (T, B, C, H, W)."""
    expected = IMAGES if T is None else f"{IMAGES} or {FRAMES}"
    if x.dim() != 4 and (T is None or x.dim() != 5):
        raise ValueError(f"expected {expected}, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"expected {expected} of floating-point numbers, got {x.dtype}")
    if x.shape[-3] != in_channels:
        raise ValueError(f"expected {in_channels} input channels, got {x.shape[-3]}")
    if x.dim() == 5 and x.shape[0] != T:
        raise ValueError(f"expected frames of T = {T} time steps, got {x.shape[0]}")
