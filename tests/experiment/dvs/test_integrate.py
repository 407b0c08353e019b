"""experiment.dvs.integrate: one recording (test_prepare has those of a data set)."""

import numpy as np
import pytest

from experiment.dvs.integrate import Integration, frames_of, refuse_too_large
from experiment.dvs.recording import recordings
from experiment.dvs.recording.events import Events, Reading
from tests.support.event_files import aedat2, random_events


@pytest.mark.parametrize(
    ("most", "dtype"), [(255, np.uint8), (256, np.uint16), (70_000, np.uint32)]
)
def test_counts_have_the_smallest_type_that_holds_them(most, dtype):
    ones = np.ones(most, dtype=int)
    counts = frames_of(Reading(Events(ones, 3 * ones, 2 * ones, ones)), 1, (5, 7))
    assert counts.dtype == dtype and counts.shape == (1, 2, 5, 7)
    assert counts[0, 1, 2, 3] == most == counts.sum(dtype=int)


@pytest.mark.parametrize(("x", "y"), [(7, 0), (0, 5), (-1, 1), (1, -1)])
def test_events_outside_of_the_sensor_are_refused(x, y):
    zeros = np.zeros(4, dtype=int)
    with pytest.raises(ValueError, match="outside of the sensor's 7x5 pixels"):
        frames_of(Reading(Events(zeros, zeros + x, zeros + y, zeros)), 2, (5, 7))


def test_only_frames_larger_than_the_memory_are_refused():
    refuse_too_large(1000, (128, 128))
    with pytest.raises(ValueError, match=r"10,000,000: .* take 185 GB .* this machine has \d"):
        refuse_too_large(10**7, (34, 34))


ERRORS = [
    (EOFError(), "EOFError"),
    (OSError(5, "Input/output error"), "Input/out"),
    (RuntimeError("encrypted"), "encrypted"),
]


@pytest.mark.parametrize("error, damage", ERRORS)
def test_every_error_of_a_file_is_damage_even_without_a_word(tmp_path, monkeypatch, error, damage):
    def fail(content):
        raise error

    monkeypatch.setattr(recordings, "decode_aedat", fail)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.aedat").write_bytes(aedat2(random_events(9, 0)))
    (result,) = Integration({"cat": tmp_path / "cat"}, tmp_path, 2, (128, 128))
    assert damage in result.damage and result.unwritten is None
    assert [path.name for path in (tmp_path / "cat").iterdir()] == ["0.aedat"]
