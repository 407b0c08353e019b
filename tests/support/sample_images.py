"""Small images for tests of image operations."""

import torch


def sample_images(channels: int) -> list[torch.Tensor]:
    """Noise, smooth images, smooth dark ones, and one that is not square."""
    generator = torch.Generator().manual_seed(channels)

    def smooth(height: int, width: int, brightness: float) -> torch.Tensor:
        coarse = torch.rand(1, channels, 6, 6, generator=generator) * brightness
        fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
        return fine[0].clamp(0, 255).to(torch.uint8)

    noise = torch.randint(256, (4, channels, 32, 32), generator=generator).to(torch.uint8)
    return [*noise, *(smooth(32, 32, 20.0 * k) for k in range(1, 13)), smooth(33, 27, 255.0)]
