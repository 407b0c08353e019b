"""util.batch_warp: closed forms that no image library is asked for."""

import pytest
import torch

from util.batch_warp import rotate, shear_x, shear_y, translate_x, translate_y

EVERY = torch.arange(20)  # settings: 2 level + (sign > 0)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randint(256, (1, 3, 32, 32), generator=generator).to(torch.uint8).repeat(20, 1, 1, 1)
    )


def test_level_0_leaves_the_image_as_it_is(batch):
    for warp in (translate_x, translate_y, rotate, shear_x, shear_y):
        assert torch.equal(warp(batch[:2], EVERY[:2]), batch[:2])


def test_translations_move_by_5_13_and_15_pixels_and_show_gray(batch):
    for level, pixels in ((3, 5), (8, 13), (9, 15)):
        left = translate_x(batch[:1], EVERY[[2 * level + 1]])
        assert torch.equal(left[..., : 32 - pixels], batch[:1, ..., pixels:])
        assert (left[..., 32 - pixels :] == 128).all()
        down = translate_y(batch[:1], EVERY[[2 * level]])
        assert torch.equal(down[..., pixels:, :], batch[:1, ..., : 32 - pixels, :])
        assert (down[..., :pixels, :] == 128).all()


def test_a_shear_of_one_axis_is_that_of_the_other_on_the_transposed_image(batch):
    sheared = shear_x(batch, EVERY)
    upright = shear_y(batch.mT.contiguous(), EVERY).mT
    # the two slopes may differ in their last bit, and so a value that is cut off, by one
    assert (sheared.int() - upright.int()).abs().max() <= 1


def test_a_shear_of_a_ramp():
    """A line of slope 7 at row + share becomes 7 (row + 2 share - 3 share^2 + 2 share^3).

    That is Keys' cubic on a line, with a = -1, worked out by hand; at y lands row y + m (x + 1/2).
    """
    ramp = (torch.arange(32) * 7).to(torch.uint8).view(1, 1, 32, 1).repeat(20, 1, 1, 32)
    sheared = shear_y(ramp, EVERY).double()
    magnitude = 0.3 * (EVERY // 2) / 9 * (2 * (EVERY % 2) - 1)
    x, y = torch.arange(32) + 0.5, torch.arange(32.0)
    row = (y.view(-1, 1) + magnitude.view(-1, 1, 1) * x).unsqueeze(1)
    inner = (row > 1) & (row < 30)
    share = row - row.floor()
    line = 7 * (row.floor() + share * (2 + share * (2 * share - 3)))
    below = line - sheared  # cut off, not rounded
    assert below[inner].min() > -1e-4 and below[inner].max() < 1 + 1e-4
    outside = (row < -0.5 - 1e-6) | (row > 31.5 + 1e-6)
    assert (sheared[outside] == 128).all() and outside.any()
