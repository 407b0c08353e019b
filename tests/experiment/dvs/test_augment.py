"""experiment.dvs.augment: the same for all frames, equal to a computation frame by frame."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from experiment.dvs.augment import RandomRoll, resize, training_transform

T, SIDE = 5, 48


def frames(seed: int = 0, side: int = SIDE) -> torch.Tensor:
    """Sparse random counts, all positive values different."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randperm(T * 2 * side * side, generator=generator).float() + 1
    return values.reshape(T, 2, side, side)


def interpolation_weights(source: int, target: int) -> np.ndarray:
    """(target, source) rows of a triangle filter whose half-width is the reduction factor."""
    scale = source / target
    centers = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source)[None] + 0.5 - centers[:, None]) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("side", [128, 34, 61])
def test_resize_is_an_antialiased_triangle_filter_on_each_frame(side):
    sample = frames(side=side)
    weights = interpolation_weights(side, SIDE)
    resized = resize(sample, SIDE)
    assert resized.shape == (T, 2, SIDE, SIDE) and resized.dtype == torch.float32
    for t in range(T):
        for polarity in range(2):
            expected = weights @ sample[t, polarity].double().numpy() @ weights.T
            np.testing.assert_allclose(resized[t, polarity].numpy(), expected, rtol=1e-4)


def test_resize_agrees_with_pillow():
    sample = frames(side=128)
    for image, resized in zip(
        sample.flatten(0, 1), resize(sample, SIDE).flatten(0, 1), strict=True
    ):
        expected = Image.fromarray(image.numpy()).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        torch.testing.assert_close(resized, torch.from_numpy(np.array(expected)), rtol=1e-4, atol=1)


def is_roll(sample: torch.Tensor, result: torch.Tensor) -> bool:
    return any(
        torch.equal(torch.roll(sample, (dy, dx), (-2, -1)), result)
        for dy in range(-5, 6)
        for dx in range(-5, 6)
    )


def is_cutout(sample: torch.Tensor, result: torch.Tensor) -> bool:
    """Each frame misses the same rectangle, 16 pixels long unless the border clips it."""
    erased = result != sample
    rows, columns = erased[0, 0].any(1).nonzero().flatten(), erased[0, 0].any(0).nonzero().flatten()
    if not len(rows) or (result[erased] != 0).any() or not (erased == erased[0, 0]).all():
        return False
    for line in (rows, columns):
        first, last = line[0].item(), line[-1].item()
        whole = last - first == 15
        clipped = last - first < 15 and (first == 0 or last == SIDE - 1)
        if not (whole or clipped):
            return False
    return int(erased[0, 0].sum()) == len(rows) * len(columns)


def rotated(image: np.ndarray, angle: float) -> np.ndarray:
    """Counter-clockwise by `angle` degrees about the centre, nearest pixel, 0 outside."""
    side = len(image)
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    column = np.rint(cosine * x - sine * y + (side - 1) / 2).astype(int)
    row = np.rint(sine * x + cosine * y + (side - 1) / 2).astype(int)
    inside = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    result = np.zeros_like(image)
    result[inside] = image[row[inside], column[inside]]
    return result


def rotation_angle(sample: torch.Tensor, result: torch.Tensor) -> float | None:
    """The angle in -35 ... 35 degrees, to a quarter, that explains the result on every frame.

    Between two angles of that grid some pixels take a neighbour's value.
    """
    pairs = list(zip(sample.flatten(0, 1).numpy(), result.flatten(0, 1).numpy(), strict=True))
    angle = max(
        np.arange(-35, 35.1, 0.25),
        key=lambda angle: np.mean(rotated(pairs[0][0], angle) == pairs[0][1]),
    )
    shares = [np.mean(rotated(before, angle) == after) for before, after in pairs]
    return float(angle) if min(shares) > 0.9 else None


def apply(sample: torch.Tensor, *, flip: bool, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return training_transform(flip=flip)(sample)


def test_exactly_one_of_roll_rotation_and_cutout_on_a_sample_that_may_be_mirrored():
    sample, kinds, angles = frames(), Counter(), []
    for seed in range(120):
        result = apply(sample, flip=True, seed=seed)
        for mirrored in (False, True):
            before = sample.flip(-1) if mirrored else sample
            if is_roll(before, result):
                kinds["roll", mirrored] += 1
            elif is_cutout(before, result):
                kinds["cutout", mirrored] += 1
            elif (angle := rotation_angle(before, result)) is not None:
                kinds["rotation", mirrored] += 1
                angles.append(angle)
    assert sum(kinds.values()) == 120
    for kind in ("roll", "cutout", "rotation"):
        for mirrored in (False, True):
            assert 8 <= kinds[kind, mirrored] <= 32  # 20 expected, three standard deviations
    assert min(angles) < -20 and max(angles) > 20 and max(map(abs, angles)) <= 30


def test_without_flip_nothing_is_mirrored():
    sample = frames()
    rolls = sum(is_roll(sample, apply(sample, flip=False, seed=seed)) for seed in range(60))
    mirrored = sum(is_roll(sample.flip(-1), apply(sample, flip=False, seed=s)) for s in range(60))
    assert rolls >= 9 and mirrored == 0


def test_rolls_are_uniform_over_eleven_shifts_on_each_axis():
    sample = torch.zeros(1, 1, 11, 11)
    sample[0, 0, 5, 5] = 1
    torch.manual_seed(0)
    roll, total = RandomRoll(5), torch.zeros(11, 11)
    for _ in range(2420):
        total += roll(sample)[0, 0]
    assert total.sum() == 2420
    # 220 per row and column: standard deviation 14
    assert (total.sum(0) - 220).abs().max() < 57 and (total.sum(1) - 220).abs().max() < 57
    assert (total > 0).all()


def test_the_sample_itself_is_left_alone():
    sample = frames()
    copy = sample.clone()
    for seed in range(20):
        apply(sample, flip=True, seed=seed)
    assert torch.equal(sample, copy)
