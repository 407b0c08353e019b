"""Reads every file of frames once, and names all that are bad."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from experiment.bad_samples import find_bad_samples
from experiment.dvs.frames import EventFrames
from experiment.dvs.recordings import DAMAGE


def problem_of(part: EventFrames, index: int) -> str | None:
    """What is wrong with a sample; None where nothing is."""
    try:
        part.read(index)
    except (*DAMAGE, MemoryError, OSError) as error:
        return f"{part.path(index)}: {error}"
    return None


def check_frames(
    parts: Sequence[EventFrames], num_workers: int, report: Callable[[str], None]
) -> None:
    """Read all samples, in `num_workers` processes; `report` is given a line now and then.

    Raises: ValueError with a line for each bad file.
    """
    bad = find_bad_samples(parts, problem_of, num_workers=num_workers, report=report)
    if bad:
        advice = "delete them and start again: they are made anew from the recordings"
        raise ValueError("\n  ".join([f"{len(bad)} files of frames are damaged; {advice}:", *bad]))
