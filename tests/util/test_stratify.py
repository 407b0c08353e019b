"""Small classes are on both sides of a split, or are named."""

from itertools import product

import numpy as np
import pytest

from util.stratify import refuse_small_classes, stratified_split


def test_a_class_that_is_let_through_is_on_both_sides():
    """Beside large ones, whatever the fraction and the seed."""
    let_through = 0
    for count, fraction in product(range(1, 12), (0.05, 0.1, 0.2, 0.34, 0.5, 0.8, 0.95)):
        labels = np.array([0] * 101 + [1] * count + [2] * 37)
        try:
            refuse_small_classes(labels, ("a", "b", "c"), fraction, "pictures")
        except ValueError:
            assert count * min(fraction, 1 - fraction) < 1
            continue
        let_through += 1
        for seed in range(2):
            for side in stratified_split(labels, fraction, part="test", seed=seed):
                assert set(labels[side]) == {0, 1, 2}
    assert let_through > 20


def test_the_smallest_class_is_named():
    with pytest.raises(ValueError, match="class 'b' has 4 pictures, of which"):
        refuse_small_classes([0] * 9 + [1] * 4 + [2] * 4, ("a", "b", "c"), 0.2, "pictures")
