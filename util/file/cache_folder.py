"""Where torch keeps what it compiles, on machines that have no usual place for it.

The first import of torch's compiler, which torchvision causes, makes a folder below that of
temporary files and names it after the user. Where the user has no name, as in a container that runs
under a number, or nothing can be written there, no program that uses torchvision would start.
"""

from __future__ import annotations

import getpass
import os
import tempfile

COMPILED, OPERATORS = "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR"
IN_MEMORY = "/dev/shm"


def settle_cache_folder() -> None:
    """Put into the environment what torch would look for in vain.

    To be called before torchvision is imported.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # from Python 3.13 on OSError
        os.environ["USER"] = str(os.getuid())
    try:
        tempfile.gettempdir()
    except FileNotFoundError:  # every disk is full, or may only be read
        os.environ["TMPDIR"] = IN_MEMORY
    try:
        os.makedirs(os.environ[COMPILED], exist_ok=True)
    except (KeyError, OSError):
        os.environ.pop(COMPILED, None)  # torch has one of its own
    if os.path.expanduser("~") == "~":  # no home: torch would make a folder that is named so
        own = f"torch_extensions_{os.getuid()}"
        os.environ.setdefault(OPERATORS, os.path.join(tempfile.gettempdir(), own))
