"""Kinds of flags: what parses the text of one and refuses a wrong one in a sentence."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

LARGEST = 2**31 - 1  # of whole numbers: what fits every index type of the libraries below
LARGEST_REAL = 1e30  # of others: what fp32 holds, with room to multiply


class FlagKind:
    """Any text; an argparse type, as every kind.

    Raises: argparse.ArgumentTypeError for a text that is none of the kind.
    """

    def __call__(self, text: str) -> Any:
        return text

    def for_argparse(self) -> dict[str, Any]:
        """The arguments of `add_argument` that make a flag of this kind."""
        return {"type": self}


class Switch(FlagKind):
    """--name, and its opposite --no-name."""

    def for_argparse(self) -> dict[str, Any]:
        return {"action": argparse.BooleanOptionalAction}


@dataclass(frozen=True)
class OneOf(FlagKind):
    """One of the names in a table, to which more may be added later."""

    names: Collection[str]

    def for_argparse(self) -> dict[str, Any]:
        return {"choices": self.names}


@dataclass(frozen=True)
class Number(FlagKind):
    """A finite number within [low, high]; open_low, open_high: without that end."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False
    parse: ClassVar[Callable[[str], float]]
    what: ClassVar[str]

    def __call__(self, text: str) -> float:
        try:
            value = self.parse(text)
        except ValueError:
            raise self._refusal(text) from None
        too_low = value <= self.low if self.open_low else value < self.low
        within = value < self.high if self.open_high else value <= self.high  # NaN is not
        if too_low or not within:
            start = "above" if self.open_low else "from"
            end = "and below" if self.open_high else "up to"
            raise self._refusal(text, f" {start} {self.low} {end} {self.high}")
        return value

    def _refusal(self, text: str, bounds: str = "") -> argparse.ArgumentTypeError:
        sentence = f"expected {self.what}{bounds}, got {shortened(text)}"
        return argparse.ArgumentTypeError(sentence)


@dataclass(frozen=True)
class Whole(Number):
    """A whole number."""

    high: int = LARGEST
    parse, what = int, "a whole number"


@dataclass(frozen=True)
class Real(Number):
    """A number that fp32 holds."""

    low: float = -LARGEST_REAL
    high: float = LARGEST_REAL
    parse, what = float, "a number"


@dataclass(frozen=True)
class Or(FlagKind):
    """A kind, or `word`, which stands for itself, or a word of `none`, in any case: None."""

    kind: FlagKind
    word: str | None = None
    none: tuple[str, ...] = ()

    def __call__(self, text: str) -> Any:
        if text == self.word:
            return text
        return None if text.lower() in self.none else self.kind(text)


@dataclass(frozen=True)
class OrAlone(FlagKind):
    """A kind, or the flag without a value, which stands for `alone`."""

    kind: FlagKind
    alone: Any

    def for_argparse(self) -> dict[str, Any]:
        return {"type": self.kind, "nargs": "?", "const": self.alone}


@dataclass(frozen=True)
class Pixels(FlagKind):
    """Width and height of something in pixels, each up to `high`; stays text, WIDTHxHEIGHT."""

    high: int

    def __call__(self, text: str) -> str:
        found = re.fullmatch(r"(\d{1,9})x(\d{1,9})", text.strip().lower(), re.ASCII)
        if found is None or not all(1 <= int(side) <= self.high for side in found.groups()):
            example = "WIDTHxHEIGHT in pixels, such as 346x260"
            raise argparse.ArgumentTypeError(
                f"expected {example}, each from 1 up to {self.high}, got {shortened(text)}"
            )
        return found[0]


class Location(FlagKind):
    """A path, see `expanded_path`."""

    def __call__(self, text: str) -> Path:
        return expanded_path(text)


def home_path(text: str) -> Path:
    """An argparse type: a path whose ~ is the home folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r} (an unset variable?)")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} begins with a home folder that is not known: write the path in full"
        ) from None


def expanded_path(text: str) -> Path:
    """An argparse type: as `home_path`, and no link on the way leads nowhere."""
    path = home_path(text)
    for link in filter(os.path.islink, (path, *path.parents)):
        try:
            link.stat()
        except OSError as error:
            reason = f"a link to {link.readlink()} ({error.strerror})"
            raise argparse.ArgumentTypeError(f"{link} is {reason}") from error
    return path


def shortened(text: str) -> str:
    """The text in quotes, its middle left out if it is long."""
    return repr(text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}")
