"""The system calls of a save, one of which fails or is the last thing that the process does."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SYSTEM_CALLS = ("open", "write", "fsync", "close", "replace", "link", "unlink")
Strike = Callable[[str, Callable[..., Any], tuple], Any]


class Watch:
    """Counts the system calls inside its `with` blocks; call number `at` goes through `strike`.

    strike: gets the name of the call, the call itself and its arguments.
    """

    def __init__(self, at: int | None = None, strike: Strike | None = None):
        self.at, self.strike = at, strike
        self.calls = 0
        self._own: dict[str, Callable[..., Any]] = {}

    def __enter__(self) -> Watch:
        self._own = {name: getattr(os, name) for name in SYSTEM_CALLS}
        for name, call in self._own.items():
            setattr(os, name, self._watched(name, call))
        return self

    def __exit__(self, *_: object) -> None:
        for name, call in self._own.items():
            setattr(os, name, call)

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def replacement(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls - 1 == self.at:
                return self.strike(name, call, args)
            return call(*args, **options)

        return replacement


def kill_before(name: str, call: Callable[..., Any], args: tuple) -> None:
    """SIGKILL for the process group, before the call or half-way through a write."""
    if name == "write":
        call(args[0], args[1][: len(args[1]) // 2])
    os.killpg(0, signal.SIGKILL)


def kill_after(name: str, call: Callable[..., Any], args: tuple) -> None:
    """SIGKILL for the process group, right after the call."""
    with suppress(OSError):  # a call may fail and be meant to: an unlink of what is not there
        call(*args)
    os.killpg(0, signal.SIGKILL)


def refuse(name: str, call: Callable[..., Any], args: tuple) -> None:
    """An error of the device."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))
