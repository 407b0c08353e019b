"""Where torch keeps what it compiles, also for users whom the system does not know.

The first import of torch's compiler, which torchvision causes, makes that folder and names it after
the user. It fails where the user has no name, as in a container that runs under a number, and where
the folder cannot be made: then no program that uses torchvision starts.
"""

from __future__ import annotations

import getpass
import os
import tempfile
from pathlib import Path

COMPILED, OPERATORS = "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR"


def settle_cache_folder() -> None:
    """Name a folder for torch in its environment variables, if it would find none.

    To be called before torchvision is imported.
    """
    has_place = os.path.expanduser("~") != "~"  # else torch makes a folder that is named so
    try:
        if COMPILED in os.environ:
            Path(os.environ[COMPILED]).mkdir(parents=True, exist_ok=True)
        else:
            getpass.getuser()
    except (KeyError, OSError):  # from Python 3.13 on OSError for both
        has_place = False
        os.environ[COMPILED] = str(_own_folder())
    if not has_place:
        os.environ.setdefault(OPERATORS, str(_own_folder() / "extensions"))


def _own_folder() -> Path:
    """Named after the user's number, which everyone has."""
    return Path(tempfile.gettempdir(), f"torchinductor_{os.getuid()}")
