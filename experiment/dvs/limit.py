"""Numbers of frames that are refused before any recording is read."""

from __future__ import annotations

import os
from collections.abc import Sequence

from experiment.dvs.recordings import Recording

BYTES_IN_MEMORY = 8  # of a count while events are integrated (float64)


def refuse_too_large(T: int, sensor_size: tuple[int, int]) -> None:
    """ValueError if the frames of one recording do not fit this machine's memory."""
    height, width = sensor_size
    needed = BYTES_IN_MEMORY * T * 2 * height * width
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ValueError(
            f"T = {T:,}: the frames of one recording take {needed / 1e9:,.0f} GB of memory, this "
            f"machine has {memory / 1e9:,.0f} GB: choose a smaller --T"
        )


def refuse_more_frames_than_events(found: Sequence[Recording], T: int) -> None:
    """ValueError if no recording can have T events, going by the sizes of their files."""
    if any(recording.most_events is None for recording in found):
        return
    largest = max(found, key=lambda recording: recording.most_events)
    if largest.most_events < T:
        raise ValueError(
            f"T = {T:,}: no recording has so many events, {largest.place} at most "
            f"{largest.most_events:,}: choose a smaller --T"
        )
