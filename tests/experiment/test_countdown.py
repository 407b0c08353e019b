"""experiment.countdown: few lines without a terminal, a bar on one."""

import io
import re
import sys

import pytest

from experiment.countdown import Countdown


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("total", "lines"), [(1000, 10), (7, 7), (95, 10), (0, 0)])
def test_without_a_bar_every_tenth_part_is_a_line(total, lines, terminal, monkeypatch):
    """There is none without a terminal, nor on one without the package that draws it."""
    if terminal:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setitem(sys.modules, "progress.bar", None)
    said = []
    countdown = Countdown("counting", total, said.append)
    for _ in range(total):
        countdown.advance()
    countdown.close()
    assert len(said) == lines
    if total:
        assert re.fullmatch(rf"counting: [\d,]+ of {total:,}, \d+ s left", said[0])
        assert said[-1] == f"counting: {total:,} of {total:,}, 0 s left"


def test_on_a_terminal_there_is_a_bar_and_no_line(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    said = []
    countdown = Countdown("counting", 3, said.append)
    for _ in range(3):
        countdown.advance()
    countdown.close()
    assert said == [] and "counting" in terminal.getvalue() and "3/3" in terminal.getvalue()
