"""What a run is: the flags that decide what is computed. It is resumed with the same ones only."""

from __future__ import annotations

from typing import Any

from experiment.flag.lookup import defaults_of


def differences(
    saved: dict[str, Any], wanted: dict[str, Any], *, wanted_as: str = "asked for"
) -> list[str]:
    """In what the arguments of a saved run differ from those of a command, each in words.

    A run that lacks a flag was begun before there was one, and did what is its default by now; a
    flag that there is no more made no difference where it was off.
    """
    defaults = defaults_of(wanted.get("dataset"))

    def value(arguments: dict[str, Any], name: str) -> Any:
        found = arguments.get(name, defaults.get(name))
        return None if found is False and name not in defaults else found

    names = sorted(saved.keys() | wanted.keys())
    pairs = ((name, value(saved, name), value(wanted, name)) for name in names)
    return [
        f"{name} {as_asked(own)} ({wanted_as}: {as_asked(other)})"
        for name, own, other in pairs
        if own != other
    ]


def as_asked(value: Any) -> str:
    """A flag's value for a sentence; None is what "none" says on a command line."""
    return "none" if value is None else repr(value)


def refuse_other_arguments(saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """ValueError that names every argument in which a checkpoint and a command differ."""
    found = differences(saved, wanted)
    if found:
        raise ValueError(
            f"it was trained with {', '.join(found)}: leave these out, or repeat its own "
            "(config.json beside it has them), or begin a new run with its weights by --init"
        )
