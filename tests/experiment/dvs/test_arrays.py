"""experiment.dvs.arrays: event arrays as spikingjelly has them, and what is none."""

import numpy as np
import pytest

from experiment.dvs.arrays import checked_events, open_arrays

PLAIN = {"t": np.array([5, 6, 6]), "x": np.array([0, 33, 2]), "y": np.array([1, 1, 0]),
         "p": np.array([0, 1, 1])}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_events_of_every_type_of_number(dtype):
    events = checked_events({**PLAIN, "x": PLAIN["x"].astype(dtype), "p": PLAIN["p"].astype(bool)})
    for name, expected in PLAIN.items():
        np.testing.assert_array_equal(getattr(events, name), expected)
    assert {events.x.dtype, events.y.dtype, events.p.dtype} == {np.dtype(np.int64)}


def test_no_events_are_events():
    assert len(checked_events({name: np.array([]) for name in "txyp"}).t) == 0


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"p": np.array([-1, 1, 1])}, "array p: values from -1 to 1"),
        ({"p": np.array([1, 2, 2])}, r"array p: values up to 2, expected 0 \(OFF\) and 1 \(ON\)"),
        ({"x": np.array([0, np.nan, 1])}, "array x: values from nan"),
        ({"x": np.array([0, 1e300, 1])}, r"array x: values from 0.0 to 1e\+300"),
        ({"y": np.array([0, 0.5, 1])}, "array y: fractions"),
        ({"y": np.array(["a", "b", "c"])}, "array y: values of type <U1"),
        ({"x": np.array([1, 2])}, "one value per event each"),
        ({name: values[None] for name, values in PLAIN.items()}, "one value per event each"),
    ],
)
def test_arrays_that_hold_no_events_are_refused(changed, reason):
    with pytest.raises(ValueError, match=reason):
        checked_events({**PLAIN, **changed})


def test_a_missing_array_is_named():
    with pytest.raises(ValueError, match="no array x, p in it, expected t, x, y and p"):
        checked_events({"t": PLAIN["t"], "y": PLAIN["y"]})


def test_a_single_array_is_no_file_of_arrays(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, PLAIN["t"])
    with pytest.raises(ValueError, match="a single array"):
        open_arrays(tmp_path / "x.npz")
