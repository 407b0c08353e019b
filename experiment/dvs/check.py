"""Reads every file of frames once, and names all that are bad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from torch.utils.data import Dataset

from experiment.dvs.countdown import Countdown
from experiment.dvs.frames import DAMAGE, EventFrames
from util.read_once import read_once


class FrameCheck(Dataset):
    """What is wrong with each sample of some parts of a data set, None where nothing is."""

    def __init__(self, parts: Sequence[EventFrames]) -> None:
        self.samples = [(part, index) for part in parts for index in range(len(part))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> str | None:
        part, index = self.samples[number]
        try:
            part.read(index)
        except (*DAMAGE, OSError) as error:
            return f"{part.path(index)}: {error}"
        return None


def check_frames(
    parts: Sequence[EventFrames], num_workers: int, report: Callable[[str], None]
) -> None:
    """Read all samples, in `num_workers` processes; `report` is given a line now and then.

    Raises: ValueError with a line for each bad file.
    """
    check, bad = FrameCheck(parts), []
    with (
        closing(Countdown("checking", len(check), report)) as countdown,
        closing(read_once(check, num_workers=min(num_workers, len(check)))) as problems,
    ):
        for problem in problems:
            bad += [] if problem is None else [problem]
            countdown.advance()
    if bad:
        advice = "delete them and start again: they are made anew from the recordings"
        raise ValueError("\n  ".join([f"{len(bad)} files of frames are damaged; {advice}:", *bad]))
