"""A progress bar with the remaining time on a terminal, and nothing elsewhere.

Without the package progress there is none at all.
"""

from __future__ import annotations

import sys


class StepBar:
    """Counts `total` steps of which some are `done`; silent where stderr is no terminal.

    `show` off silences it too. Use with `contextlib.closing`, so that an error finds a clean line.
    """

    def __init__(self, title: str, total: int, done: int = 0, *, show: bool = True):
        self._bar = None
        is_terminal = getattr(sys.stderr, "isatty", bool)()  # a notebook's stream may lack it
        make_bar = bar_class() if show and is_terminal and total > 0 else None
        if make_bar is not None:
            suffix = "%(index)d/%(max)d steps, %(eta_td)s left"
            # A hidden cursor would stay hidden after a kill.
            self._bar = make_bar(
                title, max=total, suffix=suffix, file=sys.stderr, hide_cursor=False
            )
            self._bar.index = done  # Bar.goto would count them in the speed
            self._bar.update()

    @property
    def is_drawn(self) -> bool:
        """Whether there is a bar to see."""
        return self._bar is not None

    def advance(self) -> None:
        """One step more."""
        if self._bar is not None:
            self._bar.next()

    def close(self) -> None:
        """Leave an empty line to what is printed next."""
        if self._bar is not None:
            self._bar.writeln("")
            sys.stderr.write("\r")
            sys.stderr.flush()


def bar_class() -> type | None:
    """The bar of the package progress; None if it is not installed."""
    try:
        from progress.bar import Bar
    except ModuleNotFoundError:
        return None
    return Bar
