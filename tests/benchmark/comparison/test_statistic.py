"""Tests of pairs, against the formulas, tables and examples of textbooks."""

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from benchmark.comparison.statistic import holm, paired_test, smallest_wilcoxon

FIRST, SECOND = [5.0, 7.0, 6.0, 9.0, 8.0], [4.0, 4.0, 4.5, 7.0, 8.5]  # differences 1 3 1.5 2 -0.5


def test_difference_interval_and_t_by_hand() -> None:
    found = paired_test(FIRST, SECOND)
    assert (found.pairs, found.difference) == (5, pytest.approx(1.4))
    error = (6.7 / 4 / 5) ** 0.5  # squares around 1.4: 0.16 + 2.56 + 0.01 + 0.36 + 3.61 = 6.7
    assert found.interval == pytest.approx((1.4 - 2.776445 * error, 1.4 + 2.776445 * error))
    assert found.t_p == pytest.approx(2 * stats.t.sf(1.4 / error, 4))


def test_wilcoxon_by_counting_signs() -> None:
    """Ranks of the differences by size: 2 5 3 4 1, of which 1 is negative."""
    sums = [sum(chosen) for k in range(6) for chosen in itertools.combinations(range(1, 6), k)]
    extreme = sum(negative <= 1 or negative >= 14 for negative in sums)
    assert paired_test(FIRST, SECOND).wilcoxon_p == pytest.approx(extreme / 32)


def test_swapped_rows_turn_the_difference_alone() -> None:
    one, other = paired_test(FIRST, SECOND), paired_test(SECOND, FIRST)
    assert other.difference == pytest.approx(-one.difference)
    assert other.interval == pytest.approx([-end for end in reversed(one.interval)])
    assert (other.t_p, other.wilcoxon_p) == pytest.approx((one.t_p, one.wilcoxon_p))


def test_too_few_pairs_are_not_tested() -> None:
    assert paired_test([], []) == (0, None, None, None, None)
    assert paired_test([3.0], [1.0]) == (1, 2.0, None, None, None)


@pytest.mark.parametrize(
    ("step", "t_p", "wilcoxon_p"), [(0.0, 1.0, 1.0), (0.1, 0.0, 0.125), (-0.1, 0.0, 0.125)]
)
def test_equal_differences_divide_nothing_by_zero(step, t_p, wilcoxon_p) -> None:
    second = [91.1, 0.7, 33.3, 12.9]  # so that sums round differently
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = paired_test([value + step for value in second], second)
    assert found.interval == (found.difference, found.difference)
    assert found.difference == pytest.approx(step)
    assert (found.t_p, found.wilcoxon_p) == (t_p, wilcoxon_p)


def test_differences_are_equal_if_they_are_but_for_rounding() -> None:
    """As accuracies on 360 images are: two of these differences are one image."""
    first, second = np.array([[331, 340, 335, 338], [330, 339, 331, 340]]) / 360 * 100
    found = paired_test(first, second)
    exact = paired_test([331, 340, 335, 338], [330, 339, 331, 340])
    assert (found.t_p, found.wilcoxon_p) == pytest.approx((exact.t_p, exact.wilcoxon_p))


@pytest.mark.parametrize("pairs", [2, 5, 6])
def test_the_smallest_p_of_wilcoxon_is_reached_by_equal_signs(pairs: int) -> None:
    found = paired_test(np.arange(1.0, pairs + 1), np.zeros(pairs))
    assert found.wilcoxon_p == pytest.approx(smallest_wilcoxon(pairs))
    assert smallest_wilcoxon(5) == 0.0625


@pytest.mark.parametrize(
    ("given", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, None, 0.04, 0.03, None, 0.005], [0.03, None, 0.06, 0.06, None, 0.02]),
        ([0.5, 0.9, 0.4], [1.0, 1.0, 1.0]),
        ([0.02], [0.02]),
        ([None], [None]),
        ([], []),
    ],
)
def test_holm(given, corrected) -> None:
    """The first example is a common one (four tests at 0.05: two are rejected)."""
    assert holm(given) == [None if p is None else pytest.approx(p) for p in corrected]
