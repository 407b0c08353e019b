"""experiment.dvs.limit: what is absurd, and what may work is left alone."""

import pytest

from experiment.dvs.limit import refuse_more_frames_than_events, refuse_too_large
from experiment.dvs.recordings import Recording


def recording(most_events):
    return Recording("x", f"place of {most_events}", None, most_events)


def test_only_more_frames_than_any_recording_has_events_are_refused():
    found = [recording(3), recording(9), recording(5)]
    refuse_more_frames_than_events(found, 9)
    with pytest.raises(ValueError, match="T = 10: no recording has so many events, place of 9 at"):
        refuse_more_frames_than_events(found, 10)
    refuse_more_frames_than_events([*found, recording(None)], 10)  # its size says nothing


def test_only_frames_larger_than_the_memory_are_refused():
    refuse_too_large(1000, (128, 128))
    with pytest.raises(ValueError, match=r"10,000,000: .* take 185 GB .* this machine has \d"):
        refuse_too_large(10**7, (34, 34))
