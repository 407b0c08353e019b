"""Recordings to classify come out as training samples do; what cannot be read is refused."""

import numpy as np
import pytest

from experiment.dvs.events import Events, encode_aedat
from experiment.trained.input_events import UNREADABLE, read_events

PLAIN = {"image_size": 5}


def test_files_that_only_look_like_frames_are_refused_and_can_be_skipped(tmp_path):
    path = tmp_path / "x.npz"
    for content, message in (
        (np.zeros((3, 2, 4, 4)), "a single array, expected a .npz archive"),
        ({"other": np.zeros(3)}, "no array 'frames'"),
        ({"frames": np.zeros((3, 2, 0, 4))}, r"shape \(3, 2, 0, 4\), expected 3 of 2 channels"),
    ):
        with path.open("wb") as file:
            np.savez(file, **content) if isinstance(content, dict) else np.save(file, content)
        with pytest.raises(UNREADABLE, match=message):
            read_events(path, PLAIN, 3)


def test_a_recording_with_fewer_events_than_frames_is_refused(tmp_path):
    events = Events(*(np.arange(2) for _ in range(4)))
    (tmp_path / "x.aedat").write_bytes(encode_aedat(events))
    assert read_events(tmp_path / "x.aedat", PLAIN, 2).shape == (2, 2, 5, 5)
    with pytest.raises(UNREADABLE, match="2 events, fewer than the 3 frames"):
        read_events(tmp_path / "x.aedat", PLAIN, 3)
