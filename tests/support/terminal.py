"""A terminal that a program writes to and a test reads."""

import os
import pty


class Terminal:
    """`end` is the program's file descriptor; `text` closes it and returns what was written."""

    def __init__(self) -> None:
        self._ours, self.end = pty.openpty()

    def text(self) -> str:
        os.close(self.end)
        written = b""
        try:
            while part := os.read(self._ours, 65536):
                written += part
        except OSError:
            pass  # how Linux says that nobody can write any more
        finally:
            os.close(self._ours)
        return written.decode()
