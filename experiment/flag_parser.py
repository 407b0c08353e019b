"""A command-line parser that refuses a wrong value in one sentence and names idle flags."""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from util.console import make_steady

LARGEST = 2**31 - 1  # of whole numbers: what fits every index type of the libraries below
LARGEST_REAL = 1e30  # of others: what fp32 holds, with room to multiply
NEGATIVE_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)


class Idle(NamedTuple):
    """Flags that have no effect under a condition: `flags` where `applies(args)`, and why."""

    applies: Callable[[argparse.Namespace], bool]
    flags: Sequence[str]
    reason: str


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Appends the default to the help of a flag whose text does not say it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        return text if "default" in text else super()._get_help_string(action)


class FlagParser(argparse.ArgumentParser):
    """argparse with one-sentence errors (exit code 2), whole flag names only, and `idle` rules.

    A flag that is given although a rule says that it has no effect is warned about.
    """

    def __init__(self, description: str):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False)
        self.idle: list[Idle] = []
        self._negative_number_matcher = NEGATIVE_NUMBER  # Python 3.11's own takes -1e-2 for a flag

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (--help lists every flag)\n")

    def parse_args(
        self, args: Sequence[Any] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the words of a command line; from Python they may be paths and numbers, too.

        Here a command begins: from now on what it prints never ends it.
        """
        make_steady()
        args = None if args is None else [str(word) for word in args]
        parsed = super().parse_args(args, namespace)
        given = self._given(args)
        for rule in self.idle:
            if rule.applies(parsed):
                warn_about([flag for flag in rule.flags if flag in given], rule.reason)
        return parsed

    def flags(self) -> dict[str, argparse.Action]:
        """Every flag by the name of its value."""
        return {action.dest: action for action in self._actions}

    def _given(self, args: Sequence[str] | None) -> set[str]:
        """The flags that the command line names, whatever their values."""
        absent = object()
        blank = argparse.Namespace(**dict.fromkeys(self.flags(), absent))
        parsed = super().parse_args(args, blank)
        return {name for name, value in vars(parsed).items() if value is not absent}


def warn_about(flags: Iterable[str], reason: str) -> None:
    """One line on stderr about flags without effect, if there are any, from the first process."""
    names = ", ".join(f"--{flag}" for flag in flags)
    if names and os.environ.get("RANK", "0") == "0":
        print(f"warning: no effect of {names}: {reason}", file=sys.stderr)


def number(
    kind: Callable[[str], Any], low: float, high: float = math.inf, *, open_low: bool = False
) -> Callable[[str], Any]:
    """An argparse type: a finite number of a kind within [low, high], or (low, high].

    They end at LARGEST or LARGEST_REAL, in either direction, unless `low` and `high` say otherwise.
    """
    largest = LARGEST if kind is int else LARGEST_REAL
    low = -largest if low == -math.inf else low
    high = largest if high == math.inf else high

    def parse(text: str) -> Any:
        what = "a whole number" if kind is int else "a number"
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected {what}, got {shortened(text)}") from None
        too_low = value <= low if open_low else value < low
        if too_low or not value <= high:
            bounds = f"{'above' if open_low else 'from'} {low} up to {high}"
            raise argparse.ArgumentTypeError(f"expected {what} {bounds}, got {shortened(text)}")
        return value

    return parse


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


def path_or(word: str) -> Callable[[str], Path | str]:
    """An argparse type: this word, or what `expanded_path` gives."""
    return lambda text: text if text == word else expanded_path(text)


def optional(kind: Callable[[str], Any], *names: str) -> Callable[[str], Any]:
    """An argparse type: any of `names` (returned as None), or what `kind` parses."""

    def parse(text: str) -> Any:
        return None if text.lower() in names else kind(text)

    return parse


def add_switch(group: Any, name: str, default: bool | None, text: str) -> None:
    """A flag --name with its opposite --no-name."""
    group.add_argument(
        f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=text
    )


def shortened(text: str) -> str:
    """The text in quotes, its middle left out if it is long."""
    return repr(text if len(text) <= 40 else f"{text[:20]}...{text[-10:]}")
