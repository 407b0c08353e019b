"""The progress of a long task on the console: a bar, or lines, with how long the rest takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress

LINES = 10  # of a countdown in all, where no bar is drawn


class StepBar:
    """A progress bar over `total` steps of which some are `done`, with the remaining time.

    Drawn on a terminal alone, with `show`, and if the package progress is there. Use with
    `contextlib.closing`, so that an error finds a clean line.
    """

    def __init__(self, title: str, total: int, done: int = 0, *, show: bool = True):
        self._bar = None
        is_terminal = getattr(sys.stderr, "isatty", bool)()  # a notebook's stream may lack it
        if not (show and is_terminal and total > 0):
            return
        with suppress(ModuleNotFoundError):
            from progress.bar import Bar

            suffix = "%(index)d/%(max)d steps, %(eta_td)s left"
            # A hidden cursor would stay hidden after a kill.
            options = {"suffix": suffix, "file": sys.stderr, "hide_cursor": False}
            self._bar = Bar(title, max=total, **options)
            self._bar.index = done  # Bar.goto would count them in the speed
            self._bar.update()

    @property
    def is_drawn(self) -> bool:
        return self._bar is not None

    def advance(self, steps: int = 1) -> None:
        if self._bar is not None:
            self._bar.next(steps)

    def close(self) -> None:
        """Leave an empty line to what is printed next."""
        if self._bar is not None:
            self._bar.writeln("")
            sys.stderr.write("\r")
            sys.stderr.flush()


class Countdown(StepBar):
    """A bar where one is drawn; elsewhere a line of text, given to `report`, every tenth part."""

    def __init__(self, title: str, total: int, report: Callable[[str], None]):
        super().__init__(title, total)
        self.title, self.total, self.report = title, total, report
        self.done = 0
        self.begun = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        super().advance(steps)
        interval = -(-self.total // LINES)
        passed = (self.done + steps) // interval > self.done // interval
        self.done += steps
        if not self.is_drawn and (passed or self.done == self.total):
            left = (time.monotonic() - self.begun) / self.done * (self.total - self.done)
            self.report(f"{self.title}: {self.done:,} of {self.total:,}, {left:.0f} s left")
