"""A bar on a terminal that leaves a clean line; nothing elsewhere."""

import os
import re
import sys

from experiment.progress_bar import StepBar
from tests.support.terminal import Terminal


def on_terminal(monkeypatch, use):
    """What `use` writes to a terminal."""
    terminal = Terminal()
    with os.fdopen(terminal.end, "w", closefd=False) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        use()
        monkeypatch.undo()
    return terminal.text()


def test_a_terminal_shows_steps_and_remaining_time(monkeypatch):
    def use():
        bar = StepBar("epoch 4", 3, 1)
        bar.advance()
        bar.advance()
        bar.close()

    shown = on_terminal(monkeypatch, use).split("\r")
    steps = [line for line in shown if line.startswith("epoch 4")]
    assert [line.split("| ")[1].split(" steps")[0] for line in steps] == ["1/3", "2/3", "3/3"]
    assert all(re.search(r"steps, 0:0\d:\d\d left", line) for line in steps)
    assert set(shown[-2]) == {" "} and shown[-1] == ""  # wiped, the cursor at its start
    assert len(shown[-2]) >= len(steps[-1])


def test_nothing_is_shown_elsewhere(monkeypatch, capsys):
    bar = StepBar("epoch 0", 3)
    bar.advance()
    bar.close()
    assert capsys.readouterr() == ("", "")
    hidden = StepBar("epoch 0", 3, show=False)
    empty = StepBar("epoch 0", 0)

    def use():
        for silent in (hidden, empty):
            silent.advance()
            silent.close()
        print("end", file=sys.stderr)

    assert on_terminal(monkeypatch, use) == "end\r\n"


def test_a_stream_that_cannot_say_what_it_is_shows_nothing(monkeypatch):
    """As of some notebooks and loggers, which write and nothing else."""
    monkeypatch.setattr(sys, "stderr", object())
    assert not StepBar("epoch 0", 3).is_drawn


def test_without_the_package_there_is_no_bar(monkeypatch):
    monkeypatch.setitem(sys.modules, "progress.bar", None)

    def use():
        bar = StepBar("epoch 0", 3)
        assert not bar.is_drawn
        bar.advance()
        bar.close()
        print("end", file=sys.stderr)

    assert on_terminal(monkeypatch, use) == "end\r\n"
