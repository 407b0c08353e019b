"""A command-line parser that refuses a wrong value in one sentence and names idle flags."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from experiment.flag.row import Flag, silenced
from util.process.console import make_steady

NEGATIVE_NUMBER = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$", re.IGNORECASE)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Appends the default to the help of a flag whose text does not say it itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        return text if "default" in text else super()._get_help_string(action)


class FlagParser(argparse.ArgumentParser):
    """argparse with one-sentence errors (exit code 2), and whole flag names only.

    A flag of `table` that is given although a condition silences it is warned about.
    """

    def __init__(self, description: str, table: Iterable[Flag] = ()):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False)
        self._negative_number_matcher = NEGATIVE_NUMBER  # Python 3.11's own takes -1e-2 for a flag
        self.table = tuple(table)
        groups: dict[str, Any] = {}
        for flag in self.table:
            if flag.group not in groups:
                groups[flag.group] = self.add_argument_group(flag.group)
            flag.add_to(groups[flag.group])

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
        for name, value in self.implied(parsed, given).items():
            if name not in given:
                setattr(parsed, name, value)
            elif value == getattr(parsed, name):
                given.remove(name)  # it repeats what would hold without it
        for condition, silent in silenced(self.table, parsed).items():
            warn_about([name for name in silent if name in given], condition.reason)
        return parsed

    def implied(self, parsed: argparse.Namespace, given: set[str]) -> dict[str, Any]:
        """Values of flags that hold if these are not given, because of what is."""
        return {}

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
