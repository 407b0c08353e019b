"""The two parts of an activation stay each other's train and mean, whatever is done to both.

Shapes: T time steps, B batch.
"""

import pytest
import torch

from model.rate_pair import RatePair, add, map_pair

T, B = 3, 2


def pair(*, constant: bool = False, dtype: torch.dtype = torch.float64, seed: int = 1) -> RatePair:
    """Spikes (T*B, 4, 6, 5), or (B, 4, 6, 5) if constant, and their rate, a leaf."""
    generator = torch.Generator().manual_seed(seed)
    steps = 1 if constant else T
    train = torch.rand(steps * B, 4, 6, 5, generator=generator) < 0.4
    rate = train.double().unflatten(0, (steps, B)).mean(0).requires_grad_()
    return RatePair(train.to(dtype), rate, 1)


def assert_mean(x: RatePair) -> None:
    torch.testing.assert_close(x.over_time().double().mean(0), x.rate)


def test_steps_are_read_off_the_two_parts():
    assert (pair().steps, pair(constant=True).steps) == (T, 1)
    assert pair().over_time().shape == (T, B, 4, 6, 5)
    assert pair(constant=True).over_time().shape == (1, B, 4, 6, 5)


def test_an_operation_acts_on_both_parts_and_is_differentiated_at_the_rate():
    x = pair()
    out = map_pair(lambda maps: 0.3 * maps.flatten(1), x)
    assert_mean(out)
    assert out.max_count == 0 and not out.train.requires_grad
    out.rate.sum().backward()
    assert x.rate.grad.eq(0.3).all()


def test_values_that_are_only_selected_stay_counts():
    assert map_pair(lambda maps: maps[:, :, ::2], pair(), keeps_counts=True).max_count == 1


def test_bytes_stay_bytes_while_they_count_spikes():
    x = pair(dtype=torch.uint8)
    assert map_pair(lambda maps: maps[..., 1:], x, keeps_counts=True).train.dtype == torch.uint8
    mean = map_pair(lambda maps: maps.mean((-2, -1)), x)
    assert mean.train.dtype == x.rate.dtype
    assert_mean(mean)


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8])
@pytest.mark.parametrize("constant", [(False, False), (True, False), (True, True)])
def test_sums_are_counts_of_the_spikes_of_both(constant, dtype):
    x, y = (pair(constant=c, dtype=dtype, seed=i) for i, c in enumerate(constant))
    out = add(x, y)
    assert_mean(out)
    assert (out.max_count, out.train.dtype) == (2, dtype)
    assert int(out.train.max()) == 2


def test_a_sum_with_values_that_are_no_counts_is_none():
    x = pair(dtype=torch.uint8)
    out = add(x, pair()._replace(max_count=0, rate_is_mean=False))
    assert out.max_count == 0 and out.train.is_floating_point() and not out.rate_is_mean


def test_a_sum_that_no_byte_holds_is_no_byte():
    x = pair(dtype=torch.uint8)
    x = x._replace(train=200 * x.train, rate=200 * x.rate, max_count=200)
    assert_mean(add(x, x))
