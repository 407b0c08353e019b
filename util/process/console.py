"""The console of a command: closed, full, gone or short of letters, it never ends the work.

`make_steady` is called where a command begins. From then on a print takes whatever it is given:
what standard output cannot take is dropped, and standard error says so, once.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO


class SteadyFile(io.FileIO):
    """A file descriptor whose `write` never raises.

    Attributes:
        failure: why the first write failed that did; None while none has.
    """

    failure: OSError | None = None

    def write(self, data: bytes) -> int:
        """The number of bytes, all of which are written where that is possible."""
        rest = memoryview(data)
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # a full pipe that does not wait itself
                    select.select([], [self], [])
                else:
                    rest = rest[written:]
        except OSError as error:
            if self.failure is None:
                self.failure = error
                self._say(error)
        return len(data)

    def _say(self, error: OSError) -> None:
        if self.fileno() == 1:
            sentence = f"standard output cannot be written ({error.strerror}); going on without it"
            print(f"warning: {sentence}", file=sys.stderr, flush=True)


def make_steady() -> None:
    """Replace this process's standard output and error by streams that never raise.

    Letters that their encoding lacks are written as a backslash and a number. What others have put
    in their place, such as a notebook's cell, is left alone. A second call changes nothing.
    """
    _occupy_closed_descriptors()
    sys.stdout = _steady(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _steady(sys.stderr, sys.__stderr__, 2)


def lost_output() -> OSError | None:
    """Why not all of standard output was written, unless its reader did not want it all."""
    buffer = getattr(sys.stdout, "buffer", None)
    file = getattr(buffer, "raw", buffer)
    if not isinstance(file, SteadyFile):
        return None
    sys.stdout.flush()
    return None if file.failure is None or file.failure.errno == errno.EPIPE else file.failure


def _occupy_closed_descriptors() -> None:
    """Else a file that is opened later is what libraries take for standard output or error."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _steady(stream: TextIO | None, own: TextIO | None, descriptor: int) -> TextIO:
    """A stream like this one if it is the process's own; None is one that is closed."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
    if stream is not own or not isinstance(stream, io.TextIOWrapper):
        return stream
    with suppress(OSError):
        stream.flush()
    raw = SteadyFile(descriptor, "w", closefd=False)
    unbuffered = stream.write_through
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=unbuffered,
    )
