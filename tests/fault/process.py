"""Programs in child processes of their own group, which can be killed at any moment.

A child is forked from this process, which has imported everything and computed nothing: it starts
in milliseconds where a fresh interpreter takes seconds, so kills hit the training, not the imports.
"""

from __future__ import annotations

import atexit
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

with suppress(ModuleNotFoundError):  # a run imports it before its first step: here once for all
    import torch.utils.tensorboard  # noqa: F401

TIME_LIMIT = 300  # seconds for one run of some; far more than it takes
CRASHED = 99  # exit code of a child that has shown a traceback
ENDLESS = 98  # stands for that of a child which was still running at the time limit
SHORTEST = 1e-3  # seconds: a run that finishes after less than this does not heed what disturbs it


class Child(NamedTuple):
    """A process in a group of its own, and the file with what it printed."""

    pid: int
    output: Path

    @property
    def log_path(self) -> Path:
        """The folder of its runs."""
        return self.output.parent

    def send(self, number: int) -> None:
        """Signal the whole group, data-loading processes included."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self) -> int:
        """The exit code, or minus the signal that ended it; nothing of the group outlives this."""
        deadline = time.monotonic() + TIME_LIMIT
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid or time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                break
            time.sleep(0.005)
        return os.waitstatus_to_exitcode(status) if pid else ENDLESS

    def wait_for(self, text: str) -> None:
        """Return when the child has printed `text` or has ended."""
        while text not in self.text():
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                return
            time.sleep(0.002)

    def text(self) -> str:
        """What was printed so far."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""


def start(task: Callable[[], Any], output: Path) -> Child:
    """Run `task` in a new process group; it ends as a program does that ends with it."""
    sys.stdout.flush()
    sys.stderr.flush()
    output.write_text("")
    pid = os.fork()
    if pid:
        return Child(pid, output)
    _become_a_program(output)
    code = CRASHED
    try:
        task()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become_a_program(output: Path) -> None:
    """Leave what a shell would not have given: pytest's group, streams and hooks."""
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    threading.excepthook = threading.__excepthook__
    sys.unraisablehook = sys.__unraisablehook__
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup would have the child ignore


def disturbed(
    begin: Callable[[], Child],
    disturb: Callable[[Child], None],
    *,
    longest: float,
    choose: random.Random,
) -> tuple[Child, int]:
    """A run that is disturbed up to `longest` seconds after it began, and its exit code.

    Exit code 0 says that it had finished by then: another run is disturbed sooner.
    """
    while True:
        child = begin()
        time.sleep(choose.uniform(0, longest))
        disturb(child)
        code = child.wait()
        if code != 0 or longest < SHORTEST:
            return child, code
        longest /= 2
