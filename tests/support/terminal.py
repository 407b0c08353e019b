"""A terminal that a program writes to and a test reads."""

import os
import pty


class Terminal:
    """`end` is the program's file descriptor.

    Either `text` closes it and returns what was written, or it is read in part and closed.
    """

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

    def read_until(self, words: str) -> None:
        """Return when a program, whose end this closes for the test, has written `words`."""
        os.close(self.end)
        written = b""
        while words.encode() not in written:
            written += os.read(self._ours, 65536)

    def close(self) -> None:
        """Hang up: a program that the terminal controls gets SIGHUP."""
        os.close(self._ours)
