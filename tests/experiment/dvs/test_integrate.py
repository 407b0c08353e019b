"""experiment.dvs.integrate: the counts of one recording (test_prepare has those of a data set)."""

import numpy as np
import pytest

from experiment.dvs.events import Events
from experiment.dvs.integrate import integrate


@pytest.mark.parametrize(
    ("most", "dtype"), [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)]
)
def test_counts_have_the_smallest_type_that_holds_them(most, dtype):
    ones = np.ones(most, dtype=int)
    counts = integrate(Events(ones, 3 * ones, 2 * ones, ones), 1, height=5, width=7)
    assert counts.dtype == dtype and counts.shape == (1, 2, 5, 7)
    assert counts[0, 1, 2, 3] == most == counts.sum(dtype=int)


@pytest.mark.parametrize(("x", "y"), [(7, 0), (0, 5), (-1, 1), (1, -1)])
def test_events_outside_of_the_sensor_are_refused(x, y):
    zeros = np.zeros(4, dtype=int)
    with pytest.raises(ValueError, match="outside of the sensor's 5 x 7 pixels"):
        integrate(Events(zeros, zeros + x, zeros + y, zeros), 2, height=5, width=7)
