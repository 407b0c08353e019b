"""What a flag is: one record, from which follows all that the program knows of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from experiment.flag.kinds import FlagKind

OWN = object()  # the default of a row for which each experiment has its own, in its PAPER


class Role(Enum):
    """What a flag decides; the first four are what a run is, which is resumed with the same."""

    DATA = "what is learned from"
    NETWORK = "which network some weights belong to, and what it computes in inference"
    METHOD = "how gradients arise"
    TRAINING = "the recipe"
    LOOP = "how the training is carried out, which changes nothing that is computed"
    CIRCUMSTANCE = "where, from what, and whether to train at all"


IDENTITY = (Role.DATA, Role.NETWORK, Role.METHOD, Role.TRAINING)


@dataclass(frozen=True, eq=False)
class Condition:
    """When some flags have no effect, and why.

    here: whether it speaks of this machine and its processes, not of the other flags: it need not
    have held where a finished run was trained.
    """

    applies: Callable[[argparse.Namespace], bool]
    reason: str
    here: bool = False


@dataclass(frozen=True)
class Flag:
    """One flag: its help text is given with `means`.

    kind: what parses its text; unit: what --help calls a value; idle: conditions that silence it;
    group: its heading in --help.
    """

    name: str
    kind: FlagKind
    default: Any
    role: Role
    unit: str | None = None
    idle: tuple[Condition, ...] = ()
    text: str = ""
    group: str = ""

    def means(self, text: str) -> Flag:
        return replace(self, text=text)

    def add_to(self, group: Any) -> None:
        words = {"default": self.default, "help": self.text, **self.kind.for_argparse()}
        if self.unit is not None:  # switches may have none from Python 3.14 on
            words["metavar"] = self.unit
        group.add_argument(f"--{self.name}", **words)


def without_effect(flags: Iterable[Flag], args: argparse.Namespace) -> set[str]:
    """The flags that others leave without effect, on whatever machine."""
    silent = silenced(flags, args).items()
    return {name for condition, names in silent if not condition.here for name in names}


def silenced(flags: Iterable[Flag], args: argparse.Namespace) -> dict[Condition, list[str]]:
    """Every condition that applies, with the names of the flags that it leaves without effect."""
    conditions = dict.fromkeys(condition for flag in flags for condition in flag.idle)
    return {
        condition: [flag.name for flag in flags if condition in flag.idle]
        for condition in conditions
        if condition.applies(args)
    }
