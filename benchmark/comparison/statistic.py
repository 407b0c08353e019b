"""Tests of paired numbers: two rows with the same seeds, one pair per seed.

t-test and interval: Student (1908), d the differences, n pairs: t = mean(d) sqrt(n) / deviation(d),
n - 1 degrees of freedom. Signed ranks: Wilcoxon (1945), without the pairs that are equal. Several
tests at a time: Holm (1979). scipy is imported where a test is made; scikit-learn brings it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

DIGITS = 9  # differences of accuracies are fractions of the test set: what is finer is rounding


class PairedTest(NamedTuple):
    """First minus second, over the pairs.

    Attributes:
        difference: the mean; None without pairs.
        interval: 95 % confidence interval of the mean, by t; None for fewer than 2 pairs, as are
        t_p, wilcoxon_p: two-sided p-values.
    """

    pairs: int
    difference: float | None = None
    interval: tuple[float, float] | None = None
    t_p: float | None = None
    wilcoxon_p: float | None = None


def paired_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Both tests of pairs, in the units of the numbers.

    Where all differences are equal, t divides by zero. Its limits are taken: p = 1 if they are all
    0, else p = 0; the interval is the difference itself. Wilcoxon's p has no such trouble but for
    differences that are all 0: 1.
    """
    differences = np.round(np.subtract(first, second), DIGITS)
    pairs = len(differences)
    if pairs < 2:
        return PairedTest(pairs, *map(float, differences))
    from scipy import stats

    mean = float(differences.mean())
    low, high, t_p = mean, mean, 1.0 if mean == 0 else 0.0
    if np.ptp(differences) > 0:
        result = stats.ttest_rel(first, second)
        low, high = map(float, result.confidence_interval(0.95))
        t_p = float(result.pvalue)
    wilcoxon_p = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    return PairedTest(pairs, mean, (low, high), t_p, wilcoxon_p)


def smallest_wilcoxon(pairs: int) -> float:
    """The smallest two-sided p that so many pairs can reach: all of 2^n signs alike."""
    return min(1.0, 2.0 ** (1 - pairs))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p-values corrected for being several, in the same order; None is no test.

    The k-th smallest of m is multiplied by m - k + 1; none falls below a smaller one, or exceeds 1.
    """
    ordered = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for smaller, (p, place) in enumerate(ordered):
        least = max(least, min(1.0, p * (len(ordered) - smaller)))
        corrected[place] = least
    return corrected
