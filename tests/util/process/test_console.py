"""Whatever becomes of its console, a program goes on, and says so once where it can.

Each case is a small process: what it does at its end is part of the matter.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.terminal import Terminal
from util.process.console import SteadyFile, lost_output, make_steady

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
from util.process.console import lost_output, make_steady
make_steady()
make_steady()
for number in range(LINES):
    print("line µ", number, "caf\\udce9")
print("bar", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    print(lost_output(), file=file)
"""
PIPE = "warning: standard output cannot be written (Broken pipe); going on without it\nbar\n"
FULL = PIPE.replace("Broken pipe", "No space left on device")
ONCE = "line µ 0 caf\\udce9\n"
CASES = {  # how a shell starts it: environment, lines, stdout, stderr, what was lost
    "$RUN": ({}, 1, ONCE, "bar\n", None),
    "$RUN | cat": ({}, 1, ONCE, "bar\n", None),
    "$RUN ": ({"PYTHONIOENCODING": "ascii"}, 1, "line \\xb5 0 caf\\udce9\n", "bar\n", None),
    "env LC_ALL=xx_YY $RUN": ({}, 1, ONCE, "bar\n", None),
    "$RUN | true": ({}, 9999, "", PIPE, None),
    "$RUN | true ": ({"PYTHONUNBUFFERED": "1"}, 9999, "", PIPE, None),
    "$RUN > /dev/full": ({}, 9999, "", FULL, "No space left"),
    "$RUN > /dev/full ": ({}, 1, "", "bar\n" + FULL.removesuffix("bar\n"), "No space left"),
    "$RUN > /dev/full 2> /dev/full": ({}, 9999, "", "", "No space left"),
    "$RUN 2> /dev/full": ({}, 1, ONCE, "", None),
    "$RUN >&-": ({}, 9999, "", "bar\n", None),
    "$RUN 2>&-": ({}, 1, ONCE, "", None),
    "$RUN <&- >&- 2>&-": ({}, 9999, "", "", None),
}


@pytest.mark.parametrize("start", CASES)
def test_a_program_reaches_its_end(start, tmp_path):
    environment, lines, out, err, lost = CASES[start]
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("LINES", str(lines)), encoding="utf-8")
    command = start.replace("$RUN", f"'{sys.executable}' '{program}' '{tmp_path / 'lost'}'")
    kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
    utf8 = {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    shell = ["bash", "-o", "pipefail", "-c", command]
    settings = kept | utf8 | environment
    result = subprocess.run(shell, env=settings, capture_output=True, encoding="utf-8", timeout=120)
    assert (result.returncode, result.stdout, result.stderr) == (0, out, err)
    assert (lost or "None") in (tmp_path / "lost").read_text(encoding="utf-8")


def test_a_file_opened_later_is_not_taken_for_a_closed_stream(tmp_path):
    program = (
        "from util.process.console import make_steady; make_steady(); import os, sys;"
        "file = open(sys.argv[1], 'w'); os.write(0, b'0'); os.write(1, b'1'); os.write(2, b'2');"
        "sys.exit(bool(os.system('echo from a child && echo from a child >&2')))"
    )
    command = f"'{sys.executable}' -c \"{program}\" '{tmp_path / 'file'}' <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], cwd=ROOT, timeout=120).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(("options", "on_terminal"), [([], True), (["-u"], False), ([], False)])
def test_lines_come_when_and_in_the_order_that_they_would(options, on_terminal):
    """At once on a terminal and with -u, else at the end at the latest."""
    end = "os._exit(0)" if options or on_terminal else "sys.exit()"
    program = (
        "import os, sys; from util.process.console import make_steady;"
        f"print('a'); make_steady(); print('b'); {end}"
    )
    command = [sys.executable, *options, "-c", program]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if on_terminal:
        terminal = Terminal()
        subprocess.run(command, cwd=ROOT, env=kept, stdout=terminal.end, check=True, timeout=120)
        assert terminal.text() == "a\r\nb\r\n"
    else:
        shown = subprocess.check_output(command, cwd=ROOT, env=kept, timeout=120)
        assert shown == b"a\nb\n"


def test_a_stream_that_is_replaced_leaves_the_descriptor_open():
    program = (
        "import os, sys; from util.process.console import make_steady;"
        "make_steady(); sys.stdout = sys.stderr = None; os.fstat(1); os.fstat(2)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=120).returncode == 0


@pytest.mark.parametrize("buffered", [True, False])
def test_a_full_pipe_that_does_not_wait_gets_everything(buffered):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    text = b"x" * 10**6
    with subprocess.Popen(["wc", "-c"], stdin=reading, stdout=subprocess.PIPE) as count:
        os.close(reading)
        file = SteadyFile(writing, "w")
        with io.BufferedWriter(file) if buffered else file as stream:
            assert stream.write(text) == len(text)
        assert int(count.stdout.read()) == len(text)


class Cell:
    """All that a stream of others has for certain."""

    def write(self, text):
        raise AssertionError


@pytest.mark.parametrize("own", [False, True])
def test_streams_of_others_are_left_alone(own, monkeypatch):
    """As in a notebook, or here; some hosts replace the process's own, too."""
    streams = Cell(), io.StringIO()
    for name, stream in zip(("stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
        if own:
            monkeypatch.setattr(sys, f"__{name}__", stream)
    make_steady()
    assert (sys.stdout, sys.stderr) == streams
    assert lost_output() is None


def test_a_stream_that_a_host_has_taken_away_is_replaced(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    make_steady()
    assert print("caf\udce9") is None and not sys.stdout.isatty()
