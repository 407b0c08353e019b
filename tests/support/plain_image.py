"""What a fresh image of PyTorch has, and no more: commands run where all else is hidden.

    python -m tests.support.plain_image FILE     (FILE: [[command, flag, ...], ...] as JSON)

prints [[exit code, stdout, stderr], ...]. One process runs them all, since importing torch is what
takes long. A pattern among the flags is the files that it names by then, as in a shell.
"""

from __future__ import annotations

import io
import json
import os
import runpy
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from glob import glob
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from packaging.requirements import Requirement

NEEDED = ("torch", "torchvision", "numpy", "matplotlib")


def with_requirements(names: tuple[str, ...]) -> set[str]:
    """The distributions that pip installs for these, by their normal names."""
    found, wanted = set(), list(names)
    while wanted:
        name = normal(wanted.pop())
        if name not in found:
            found.add(name)
            rules = map(Requirement, metadata.requires(name) or ())
            wanted += [
                r.name for r in rules if r.marker is None or r.marker.evaluate({"extra": ""})
            ]
    return found


def normal(name: str) -> str:
    """scikit_learn and Scikit-Learn are one distribution."""
    return name.lower().replace("_", "-")


def all_but(names: tuple[str, ...]) -> set[str]:
    """The modules of everything that is installed, except for these and what they require."""
    kept = with_requirements(names)
    return {
        module
        for module, distributions in metadata.packages_distributions().items()
        if kept.isdisjoint(map(normal, distributions))
    }


def finders_without(hidden: set[str]) -> list:
    """A sys.meta_path for which these modules are not installed."""

    class Rest(PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            top = name.partition(".")[0]
            return None if top in hidden else super().find_spec(name, path, target)

    return [Rest if finder is PathFinder else finder for finder in sys.meta_path]


def exit_code(command: str, *flags: str) -> int:
    """How a command ends that is started as a file."""
    sys.argv = [command]
    for flag in flags:
        flag = os.fsdecode(flag.encode("utf-8", "surrogateescape"))  # as Python reads it itself
        sys.argv += glob(flag) or [flag]
    try:
        runpy.run_path(command, run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def outcome(command: str, *flags: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = exit_code(command, *flags)
    return code, out.getvalue(), err.getvalue()


if __name__ == "__main__":
    sys.meta_path = finders_without(all_but(NEEDED))
    commands = json.loads(Path(sys.argv[1]).read_bytes())
    print(json.dumps([outcome(*command) for command in commands]))
