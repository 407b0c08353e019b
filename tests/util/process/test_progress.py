"""Bars on a terminal that leave a clean line, and lines elsewhere."""

import os
import re
import sys

import pytest

from tests.support.terminal import Terminal
from util.process.progress import Countdown, StepBar


def on_terminal(monkeypatch, use):
    """What `use` writes to a terminal."""
    terminal = Terminal()
    with os.fdopen(terminal.end, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        use()
        monkeypatch.undo()
    return terminal.text()


def advance_to_the_end(bar, steps):
    for _ in range(steps):
        bar.advance()
    bar.close()


def test_a_terminal_shows_steps_and_remaining_time(monkeypatch):
    def use():
        advance_to_the_end(StepBar("epoch 4", 3, 1), 2)

    shown = on_terminal(monkeypatch, use).split("\r")
    steps = [line for line in shown if line.startswith("epoch 4")]
    assert [line.split("| ")[1].split(" steps")[0] for line in steps] == ["1/3", "2/3", "3/3"]
    assert all(re.search(r"steps, 0:0\d:\d\d left", line) for line in steps)
    assert set(shown[-2]) == {" "} and shown[-1] == ""  # wiped, the cursor at its start
    assert len(shown[-2]) >= len(steps[-1])


@pytest.mark.parametrize(
    ("steps", "options", "package"),
    [(3, {"show": False}, True), (0, {}, True), (3, {}, False)],
    ids=["hidden", "empty", "without the package"],
)
def test_a_terminal_may_show_nothing(steps, options, package, monkeypatch):
    def use():
        if not package:
            monkeypatch.setitem(sys.modules, "progress.bar", None)
        advance_to_the_end(StepBar("epoch 0", steps, **options), 1)
        print("end", file=sys.stderr)

    assert on_terminal(monkeypatch, use) == "end\r\n"


def test_nothing_is_shown_elsewhere(monkeypatch, capsys):
    """Nor on the streams of some notebooks and loggers, which write and nothing else."""
    advance_to_the_end(StepBar("epoch 0", 3), 1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", object())
    assert not StepBar("epoch 0", 3).is_drawn


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("total", "lines"), [(1000, 10), (7, 7), (95, 10), (0, 0)])
def test_without_a_bar_every_tenth_part_is_a_line(total, lines, terminal, monkeypatch):
    """There is none without a terminal, nor on one without the package that draws it."""
    if terminal:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setitem(sys.modules, "progress.bar", None)
    said = []
    advance_to_the_end(Countdown("counting", total, said.append), total)
    assert len(said) == lines
    if total:
        assert re.fullmatch(rf"counting: [\d,]+ of {total:,}, \d+ s left", said[0])
        assert said[-1] == f"counting: {total:,} of {total:,}, 0 s left"


def test_steps_may_be_taken_together():
    said = []
    countdown = Countdown("counting", 100, said.append)
    for steps in (4, 64, 32):
        countdown.advance(steps)
    assert [line.split(",")[0] for line in said] == ["counting: 68 of 100", "counting: 100 of 100"]


def test_on_a_terminal_there_is_a_bar_and_no_line(monkeypatch):
    said = []
    shown = on_terminal(
        monkeypatch, lambda: advance_to_the_end(Countdown("counting", 3, said.append), 3)
    )
    assert said == [] and "counting" in shown and "3/3" in shown
