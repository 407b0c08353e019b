"""Commands on a machine where much is odd, one after the other in one process.

    python -m tests.support.odd_machine FILE     (FILE: [[command, flag, ...], ...] as JSON)

puts [exit code, ...] into FILE. What the commands print goes to this process's own streams. Its
user has no name and no home; what else is odd is in the environment. A pattern among the flags is
the files that it names by then, as in a shell.
"""

from __future__ import annotations

import json
import os
import pwd
import runpy
import sys
import traceback
from glob import glob
from pathlib import Path


def no_entry(number: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {number}")


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


if __name__ == "__main__":
    pwd.getpwuid = no_entry
    file = Path(sys.argv[1])
    commands = json.loads(file.read_bytes())
    file.write_text(json.dumps([exit_code(*command) for command in commands]))
