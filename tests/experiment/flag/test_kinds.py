"""What the kinds of flags take, and that they refuse the rest in one short sentence."""

import re
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from experiment.flag.kinds import (
    LARGEST,
    Location,
    Or,
    Pixels,
    Real,
    Whole,
    expanded_path,
    home_path,
)

SEED = Whole(0, 2**32 - 1)
SHARE = Real(0, 1, open_low=True)
PART = Real(0, 1, open_high=True)
INSIDE = Real(0, 1, open_low=True, open_high=True)
POTENTIAL = Or(Real(), none=("none", "soft"))
WINDOW = Or(Whole(1), "default", none=("global",))
FILE = Or(Location(), "auto")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Whole(0), "0", 0),
        (Whole(0), " 8 ", 8),
        (Whole(0), str(LARGEST), LARGEST),
        (SEED, str(2**32 - 1), 2**32 - 1),
        (SHARE, "1", 1.0),
        (PART, "0", 0.0),
        (INSIDE, "0.001", 0.001),
        (PART, "0.999", 0.999),
        (POTENTIAL, "-3.5", -3.5),
        (POTENTIAL, "NONE", None),
        (WINDOW, "default", "default"),
        (WINDOW, "Global", None),
        (WINDOW, "3", 3),
        (Pixels(640), " 640X1 ", "640x1"),
        (FILE, "auto", "auto"),
        (FILE, "~/x.pt", Path("/somewhere/x.pt")),
        (Location(), "a/b", Path("a/b")),
        (Location(), "a/~", Path("a/~")),
    ],
)
def test_what_is_taken(kind, text, value, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    taken = kind(text)
    assert taken == value and type(taken) is type(value)


WHOLE_REFUSED = ["-1", "1.5", "1e3", "", "nan", "inf", "abc", "0x10", str(LARGEST + 1), "9" * 5000]
SHARE_REFUSED = ["nan", "inf", "-inf", "1e999", "", "x", "0", "-0.1", "1.01"]


@pytest.mark.parametrize(
    ("kind", "text", "sentence"),
    [
        *((Whole(0), text, "expected a whole number") for text in WHOLE_REFUSED),
        *((SHARE, text, "expected a number") for text in SHARE_REFUSED),
        (SHARE, "0", "above 0 up to 1"),
        *((PART, text, "from 0 and below 1") for text in ("1", "-0.1", "1.01", "nan")),
        *((INSIDE, text, "above 0 and below 1") for text in ("0", "1", "nan")),
        *((Pixels(640), text, "such as 346x260") for text in ("641x1", "0x9", "9", "9x", "-9x9")),
        (Pixels(640), f"{'9' * 5000}x1", "each from 1 up to 640, got '9999"),
        *((POTENTIAL, text, "up to 1e+30") for text in ("1e300", "-1e300", "inf", "nan")),
        (WINDOW, "Default", "expected a whole number, got 'Default'"),
        *((FILE, text, "expected a path") for text in ("", " ")),
        (Location(), "~no-such-user-here/data", "home folder that is not known"),
    ],
)
def test_what_is_refused(kind, text, sentence):
    with pytest.raises(ArgumentTypeError) as refusal:
        kind(text)
    assert sentence in str(refusal.value)
    assert len(str(refusal.value)) < 160  # a long value is cut short


def test_a_link_to_nowhere_is_named(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    for path in (link, link / "below"):
        with pytest.raises(ArgumentTypeError, match=re.escape(f"{link} is a link to nowhere (No")):
            expanded_path(str(path))
        assert home_path(str(path)) == path
    (tmp_path / "nowhere").mkdir()
    assert expanded_path(str(link)) == link
