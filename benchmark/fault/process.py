"""Runs in child processes of their own group, which can be killed at any moment.

A child is forked from this process, which has imported everything and computed nothing: it starts
in milliseconds where a fresh interpreter takes seconds, so kills hit the training, not the imports.
"""

from __future__ import annotations

import atexit
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

with suppress(ModuleNotFoundError):  # a run imports it before its first step: here once for all
    import torch.utils.tensorboard  # noqa: F401

from experiment.recorder import Recorder

TIME_LIMIT = 300  # seconds for one run of some; far more than it takes
CRASHED = 99  # exit code of a child that has shown a traceback
ENDLESS = 98  # stands for that of a child which was still running at the time limit
SHORTEST = 1e-3  # seconds: a run that finishes after less than this does not heed what disturbs it
SYSTEM_CALLS = ("open", "write", "fsync", "replace", "link", "unlink")


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
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup would have the child ignore
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


def watch_saves(on_call: Callable[[int, str, Callable[..., Any], tuple], Any]) -> None:
    """From now on route each system call inside `Recorder.save` through `on_call`; for children.

    on_call: gets the number of the call, its name, the call itself and its arguments.
    """
    depth = number = 0
    save = Recorder.save

    def watched_save(self: Recorder, *args: Any, **options: Any) -> None:
        nonlocal depth
        depth += 1
        save(self, *args, **options)
        depth -= 1

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*args: Any, **options: Any) -> Any:
            nonlocal number
            if depth == 0:
                return call(*args, **options)
            number += 1
            return on_call(number - 1, name, call, args)

        return replacement

    Recorder.save = watched_save
    for name in SYSTEM_CALLS:
        setattr(os, name, watched(name, getattr(os, name)))


def run_and_count(main: Callable[[], Any], total: Path) -> None:
    """Run, and write down how many system calls its saves made."""
    counted = 0

    def count(number: int, name: str, call: Callable[..., Any], args: tuple) -> Any:
        nonlocal counted
        counted += 1
        return call(*args)

    watch_saves(count)
    main()
    total.write_text(str(counted))


def run_and_die_in_save(main: Callable[[], Any], fatal: int, *, after: bool) -> None:
    """Run, and kill the group before or after (a write: in the middle of) call number `fatal`."""

    def die(number: int, name: str, call: Callable[..., Any], args: tuple) -> Any:
        if number == fatal:
            try:
                if name == "write":
                    call(args[0], args[1][: len(args[1]) // 2])
                elif after:
                    call(*args)
            finally:  # a call may fail and be meant to: an unlink of what is not there
                os.killpg(0, signal.SIGKILL)
        return call(*args)

    watch_saves(die)
    main()
