"""The factor of a warm-up, by the place of a step."""

import pytest

from experiment.train.warm_up import WarmUp


@pytest.mark.parametrize(
    ("epochs", "steps", "factors"),
    [
        (0, 3, []),
        (1, 4, [1 / 4, 2 / 4, 3 / 4]),
        (2, 3, [k / 6 for k in range(1, 6)]),
        (0.5, 3, [1 / 1.5]),
        (1.5, 3, [k / 4.5 for k in range(1, 5)]),
        (0.25, 4, []),  # of one step
        (0.1, 3, []),  # of less than one
        (1e-320, 3, []),
        (3, 1, [1 / 3, 2 / 3]),
    ],
)
def test_the_factor_rises_by_steps_and_stays_at_one(epochs, steps, factors):
    warm_up = WarmUp(epochs, steps)
    found = [warm_up.factor(place // steps, place % steps) for place in range(4 * steps)]
    assert found[: len(factors)] == pytest.approx(factors, rel=1e-15)
    assert set(found[len(factors) :]) == {1.0}
