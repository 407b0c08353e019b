"""A progress bar with the remaining time on a terminal, and nothing elsewhere."""

from __future__ import annotations

import sys

from progress.bar import Bar


class StepBar:
    """Counts the steps of an epoch; silent where `stream` is no terminal or `show` is off."""

    def __init__(self, title: str, total: int, done: int = 0, *, show: bool = True):
        self._bar = None
        if show and sys.stderr.isatty() and total > 0:
            suffix = "%(index)d/%(max)d steps, %(eta_td)s left%(note)s"
            self._bar = Bar(title, max=total, suffix=suffix, file=sys.stderr)
            self._bar.note = ""
            self._bar.goto(done)

    def advance(self, note: str = "") -> None:
        """One step more; `note` is shown behind the remaining time."""
        if self._bar is not None:
            self._bar.note = note
            self._bar.next()

    def close(self) -> None:
        """Leave the line to what is printed next."""
        if self._bar is not None:
            self._bar.clearln()
            self._bar.finish()
