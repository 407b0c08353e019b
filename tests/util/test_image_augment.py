"""util.image_augment against PIL itself, the written policy, and closed-form statistics."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

from tests.support.sample_images import sample_images
from util import image_augment
from util.image_augment import CIFAR_POLICY, OPERATIONS, CifarAutoAugment, Cutout, apply_operation

GRAY = {"RGB": (128, 128, 128), "L": 128}


def pil_operation(image: Image.Image, name: str, level: int, sign: int) -> Image.Image:
    """The published operations, in PIL's own terms; whatever the sign, a rotation turns left."""

    def magnitude(highest: float) -> float:
        return sign * np.linspace(0, highest, 10)[level]

    def affine(*coefficients: float, resample=Image.Resampling.NEAREST) -> Image.Image:
        fill = GRAY[image.mode]
        kind = Image.Transform.AFFINE
        return image.transform(image.size, kind, coefficients, resample, fillcolor=fill)

    def rotate() -> Image.Image:
        turned = image.convert("RGBA").rotate(np.linspace(0, 30, 10)[level])
        gray = Image.new("RGBA", turned.size, (128,) * 4)
        return Image.composite(turned, gray, turned).convert(image.mode)

    def enhance(kind) -> Image.Image:
        return kind(image).enhance(1 + magnitude(0.9))

    bicubic = Image.Resampling.BICUBIC
    width, height = image.size
    return {
        "shearX": lambda: affine(1, magnitude(0.3), 0, 0, 1, 0, resample=bicubic),
        "shearY": lambda: affine(1, 0, 0, magnitude(0.3), 1, 0, resample=bicubic),
        "translateX": lambda: affine(1, 0, magnitude(150 / 331) * width, 0, 1, 0),
        "translateY": lambda: affine(1, 0, 0, 0, 1, magnitude(150 / 331) * height),
        "rotate": rotate,
        "color": lambda: enhance(ImageEnhance.Color),
        "contrast": lambda: enhance(ImageEnhance.Contrast),
        "brightness": lambda: enhance(ImageEnhance.Brightness),
        "sharpness": lambda: enhance(ImageEnhance.Sharpness),
        "posterize": lambda: ImageOps.posterize(image, [8, 8, 7, 7, 6, 6, 5, 5, 4, 4][level]),
        "solarize": lambda: ImageOps.solarize(image, np.linspace(256, 0, 10)[level]),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
    }[name]()


def to_pil(image: torch.Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if len(image) == 1 else array)


def from_pil(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_pil_at_every_level_and_sign(name, channels):
    differing, total = 0, 0
    for image, level, sign in product(sample_images(channels), range(10), (-1, 1)):
        ours = apply_operation(image, name, level, sign)
        theirs = from_pil(pil_operation(to_pil(image), name, level, sign))
        assert ours.dtype == torch.uint8 and ours.shape == image.shape
        distance = (ours.int() - theirs.int()).abs()
        assert distance.max() <= (1 if "shear" in name else 0)
        differing += int((distance > 0).sum())
        total += distance.numel()
    assert differing <= 0.0012 * total


def test_policy_is_torchvision_s_but_for_one_probability():
    """torchvision has no level for an operation without a magnitude."""
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10)._get_policies(AutoAugmentPolicy.CIFAR10)
    differing = {}
    for number, (expected, steps) in enumerate(zip(theirs, CIFAR_POLICY, strict=True)):
        for (their_name, their_p, their_level), (p, name, level) in zip(
            expected, steps, strict=True
        ):
            assert their_name.lower() == name.lower() and their_level in (None, level)
            if p != their_p:
                differing[number, name] = (their_p, p)
    assert differing == {(16, "equalize"): (0.6, 0.8)}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda image: apply_operation(image, "blur", 3, 1), "unknown operation 'blur'"),
        (lambda image: apply_operation(image, "rotate", 10, 1), "level 10"),
        (lambda image: apply_operation(image, "rotate", 3, 0), "sign 0"),
        (lambda image: Cutout(0)(image), "size 0"),
    ],
)
def test_wrong_arguments_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call(torch.zeros(3, 8, 8, dtype=torch.uint8))


def test_policy_draws_rows_steps_and_signs_with_their_probabilities(monkeypatch):
    """The frequency of every sequence of calls lies within five standard deviations."""
    calls = []

    def record(image, name, level, sign):
        calls.append((name, level, sign))
        return image

    monkeypatch.setattr(image_augment, "apply_operation", record)
    expected = Counter()
    for first, second in CIFAR_POLICY:
        for used in product((False, True), repeat=2):
            for signs in product((-1, 1), repeat=2):
                probability, sequence = 1 / 25 / 4, []
                for (p, name, level), use, sign in zip((first, second), used, signs, strict=True):
                    probability *= p if use else 1 - p
                    sequence += [(name, level, sign)] if use else []
                expected[tuple(sequence)] += probability
    assert sum(expected.values()) == pytest.approx(1)

    torch.manual_seed(3)
    augment, image, draws = CifarAutoAugment(), torch.zeros(3, 4, 4), 30_000
    observed = Counter()
    for _ in range(draws):
        calls.clear()
        augment(image)
        observed[tuple(calls)] += 1
    assert set(observed) <= {sequence for sequence, p in expected.items() if p > 0}
    for sequence, probability in expected.items():
        deviation = (draws * probability * (1 - probability)) ** 0.5
        assert abs(observed[sequence] - draws * probability) <= 5 * deviation


def test_augmentation_repeats_with_the_seed_and_leaves_its_input_alone():
    images = sample_images(3)

    def augmented(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        augment, cutout = CifarAutoAugment(), Cutout()
        return [cutout(augment(image)) for image in images]

    before = [image.clone() for image in images]
    first, second, other = augmented(7), augmented(7), augmented(8)
    assert all(map(torch.equal, first, second))
    assert not any(map(torch.equal, first, other))
    assert all(map(torch.equal, images, before))


def test_cutout_erases_every_clipped_square_equally_often():
    height, width, size, draws = 7, 5, 4, 20_000
    image = torch.full((3, height, width), 255, dtype=torch.uint8)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    expected = Counter()
    for top, left in product(range(-2, height - 2), range(-2, width - 2)):
        inside = (top <= rows) & (rows < top + size) & (left <= columns) & (columns < left + size)
        expected[tuple(inside.flatten().tolist())] += 1 / (height * width)
    torch.manual_seed(0)
    cutout, observed = Cutout(size), Counter()
    for _ in range(draws):
        erased = cutout(image) == 0
        assert torch.equal(erased[0], erased[1]) and torch.equal(erased[0], erased[2])
        observed[tuple(erased[0].flatten().tolist())] += 1
    assert set(observed) == set(expected)
    for mask, probability in expected.items():
        deviation = (draws * probability * (1 - probability)) ** 0.5
        assert abs(observed[mask] - draws * probability) <= 5 * deviation


def test_cutout_statistics_of_the_published_setting():
    """Side lengths 8..15, 17 times 16, 15..9: in the mean 14, full in 17 of 32 centres."""
    torch.manual_seed(1)
    image, cutout = torch.full((1, 32, 32), 9, dtype=torch.uint8), Cutout()
    areas = torch.stack([(cutout(image) == 0).sum() for _ in range(8000)]).double()
    assert areas.mean() == pytest.approx(14**2, abs=3)
    assert (areas == 256).double().mean() == pytest.approx((17 / 32) ** 2, abs=0.02)
