"""How far a long task is, and how long the rest takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from experiment.progress_bar import StepBar

LINES = 10  # in all, where no bar is drawn


class Countdown:
    """A bar where one is drawn; elsewhere a line of text, given to `report`, every tenth part."""

    def __init__(self, title: str, total: int, report: Callable[[str], None]) -> None:
        self.title, self.total, self.done = title, total, 0
        self._bar = StepBar(title, total)
        self._report = None if self._bar.is_drawn else report
        self._start = time.monotonic()

    def advance(self) -> None:
        """One part more is done."""
        self.done += 1
        self._bar.advance()
        interval = -(-self.total // LINES)
        if self._report is not None and (self.done % interval == 0 or self.done == self.total):
            left = (time.monotonic() - self._start) / self.done * (self.total - self.done)
            self._report(f"{self.title}: {self.done:,} of {self.total:,}, {left:.0f} s left")

    def close(self) -> None:
        """Leave the terminal's line to what is printed next."""
        self._bar.close()
