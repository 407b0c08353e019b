"""Text that may hold what is no letter, as in names of files that are no UTF-8.

Python reads the bytes of such a name as surrogates, which no encoding can write: to print, to draw
or to write them would raise.
"""

from __future__ import annotations


def as_utf8(text: str) -> bytes:
    """UTF-8, with a backslash and a number for what it cannot write."""
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """The text with a backslash and a number for what is no letter."""
    return as_utf8(text).decode("utf-8")
