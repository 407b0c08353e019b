"""Any text can be written."""

import os

import pytest

from util.text import as_utf8, printable

LATIN = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\\b µ 日本", "a\\b µ 日本"), (LATIN, "caf\\udce9"), ("\ud800", "\\ud800")],
)
def test_what_is_no_letter_becomes_a_number(text, shown):
    assert printable(text) == shown
    assert as_utf8(text) == shown.encode()
