"""experiment.dvs.augment: the same for all frames, equal to a computation frame by frame."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from experiment.dvs.augment import RandomRoll, resize, training_transform

T, SIDE = 5, 48


@pytest.mark.parametrize("side", [128, 34, 61])
def test_resize_is_pillows_antialiased_triangle_filter_on_each_frame(side):
    sample = torch.rand(T, 2, side, side, generator=torch.Generator().manual_seed(0))
    resized = resize(sample, SIDE)
    assert resized.shape == (T, 2, SIDE, SIDE) and resized.dtype == torch.float32
    for before, after in zip(sample.flatten(0, 1), resized.flatten(0, 1), strict=True):
        picture = Image.fromarray(before.numpy())
        expected = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(after.numpy(), np.asarray(expected), rtol=1e-4)


def apply(sample: torch.Tensor, *, flip: bool, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return training_transform(flip=flip)(sample)


# Every pixel says where it is, so that a result says where each of its pixels was.
POSITIONS = 1 + torch.arange(SIDE * SIDE, dtype=torch.float32).reshape(SIDE, SIDE)


def is_roll(before: torch.Tensor, after: torch.Tensor) -> bool:
    shifts = [(dy, dx) for dy in range(-5, 6) for dx in range(-5, 6)]
    return any(torch.equal(torch.roll(before, shift, (0, 1)), after) for shift in shifts)


def is_cutout(before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether a rectangle is erased, 16 pixels long unless the border clips it."""
    erased = after != before
    places = [erased.any(dim).nonzero()[:, 0].tolist() for dim in (0, 1)]
    for line in places:
        if not line or len(line) != line[-1] - line[0] + 1:
            return False
        clipped = line[0] == 0 or line[-1] == SIDE - 1
        if len(line) > 16 or (len(line) < 16 and not clipped):
            return False
    return not after[erased].any() and int(erased.sum()) == len(places[0]) * len(places[1])


def rotation_angle(before: torch.Tensor, after: torch.Tensor) -> float | None:
    """Degrees by which the pixels have turned about the centre, each within a pixel of its place.

    None if it is no rotation; pixels that come from outside are 0.
    """
    row, column = (after > 0).nonzero(as_tuple=True)
    where = torch.empty(SIDE * SIDE + 1, dtype=torch.long)
    where[before.flatten().long()] = torch.arange(SIDE * SIDE)
    origin = where[after[row, column].long()]
    middle = (SIDE - 1) / 2
    target = torch.complex(column - middle, middle - row)
    source = torch.complex(origin % SIDE - middle, middle - origin // SIDE)
    turned = (target * source.conj()).sum().angle()
    distance = (source * torch.exp(1j * turned) - target).abs()
    return math.degrees(turned) if distance.max() < 1 else None


def test_exactly_one_of_roll_rotation_and_cutout_on_a_sample_that_may_be_mirrored():
    sample, kinds, angles = POSITIONS.expand(T, 2, -1, -1), Counter(), []
    for seed in range(120):
        result = apply(sample, flip=True, seed=seed)
        assert (result == result[0, 0]).all()  # all frames alike
        for mirrored, before in ((False, POSITIONS), (True, POSITIONS.flip(-1))):
            if is_roll(before, result[0, 0]):
                kinds["roll", mirrored] += 1
            elif is_cutout(before, result[0, 0]):
                kinds["cutout", mirrored] += 1
            elif (angle := rotation_angle(before, result[0, 0])) is not None:
                kinds["rotation", mirrored] += 1
                angles.append(angle)
    assert kinds.total() == 120 and len(kinds) == 6
    assert all(8 <= count <= 32 for count in kinds.values())  # 20 expected, three deviations
    assert min(angles) < -20 and max(angles) > 20 and max(map(abs, angles)) <= 30.2


def test_without_flip_nothing_is_mirrored():
    results = [apply(POSITIONS[None], flip=False, seed=seed)[0] for seed in range(60)]
    assert sum(is_roll(POSITIONS, result) for result in results) >= 9
    assert not any(is_roll(POSITIONS.flip(-1), result) for result in results)


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
    sample = POSITIONS.clone()[None]
    for seed in range(20):
        apply(sample, flip=True, seed=seed)
    assert torch.equal(sample[0], POSITIONS)
