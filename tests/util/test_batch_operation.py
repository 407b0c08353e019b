"""util.batch_operation: each image comes out as from the per-image operation, to the last bit."""

from itertools import product

import pytest
import torch

from tests.support.sample_images import sample_images
from util.batch_operation import apply_operation_to_batch
from util.image_augment import OPERATIONS, apply_operation


def every_setting(images: list[torch.Tensor]) -> list[tuple[torch.Tensor, int, int]]:
    return list(product(images, range(10), (-1, 1)))


def assert_equal_to_single_images(items, name):
    images, levels, signs = zip(*items, strict=True)
    batch = torch.stack(images)
    before = batch.clone()
    result = apply_operation_to_batch(batch, name, torch.tensor(levels), torch.tensor(signs))
    expected = [apply_operation(*item[:1], name, *item[1:]) for item in items]
    assert result.dtype == torch.uint8 and result.is_contiguous()
    assert torch.equal(result, torch.stack(expected))
    assert torch.equal(batch, before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_the_one_of_single_images_at_every_level_and_sign(name, channels):
    *square, oblong = sample_images(channels)
    assert_equal_to_single_images(every_setting(square), name)
    assert_equal_to_single_images(every_setting([oblong]), name)


@pytest.mark.parametrize("name", OPERATIONS)
def test_extreme_images(name):
    """One value everywhere, two values, one pixel apart, every value once, sides of 1 to 3."""
    flat = [torch.full((3, 16, 16), value, dtype=torch.uint8) for value in (0, 1, 128, 255)]
    two = torch.zeros(3, 16, 16, dtype=torch.uint8)
    two[:, 5:] = 255
    dot = torch.full((3, 16, 16), 7, dtype=torch.uint8)
    dot[:, 3, 4] = 8
    ramp = torch.arange(256).view(16, 16).to(torch.uint8).expand(3, 16, 16)
    assert_equal_to_single_images(every_setting([*flat, two, dot, ramp]), name)
    generator = torch.Generator().manual_seed(0)
    for height, width in ((1, 1), (2, 3), (3, 2), (1, 40)):
        tiny = torch.randint(256, (3, height, width), generator=generator).to(torch.uint8)
        assert_equal_to_single_images(every_setting([tiny]), name)


def test_autocontrast_at_every_pair_of_extremes():
    """All of 32,640 ranges of values, whose ends must become 0 and 255 as in PIL, or 254."""
    low, high = torch.triu_indices(256, 256, offset=1)
    middle = (low + high) // 2
    images = torch.stack([low, middle, high], dim=1).to(torch.uint8).view(-1, 1, 1, 3)
    zeros = torch.zeros(len(images), dtype=torch.int64)
    result = apply_operation_to_batch(images, "autocontrast", zeros, zeros + 1)
    for number in range(0, len(images), 13):
        assert torch.equal(result[number], apply_operation(images[number], "autocontrast", 0, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_gpu_computes_the_same(name):
    images, levels, signs = zip(*every_setting(sample_images(3)[:-1]), strict=True)
    arguments = torch.stack(images), torch.tensor(levels), torch.tensor(signs)
    on_host = apply_operation_to_batch(arguments[0], name, *arguments[1:])
    batch, level, sign = (values.cuda() for values in arguments)
    assert torch.equal(apply_operation_to_batch(batch, name, level, sign).cpu(), on_host)
