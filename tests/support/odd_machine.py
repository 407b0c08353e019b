"""Commands on a machine where much is odd, one after the other in one process.

    python -m tests.support.odd_machine FILE     (FILE: [[command, flag, ...], ...] as JSON)

puts [exit code, ...] into FILE. What the commands print goes to this process's own streams. Its
user has no name and no home; what else is odd is in the environment. A pattern among the flags is
the files that it names by then, as in a shell.
"""

from __future__ import annotations

import json
import pwd
import sys
from pathlib import Path

from tests.support.plain_image import exit_code


def no_entry(number: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {number}")


if __name__ == "__main__":
    pwd.getpwuid = no_entry
    file = Path(sys.argv[1])
    commands = json.loads(file.read_bytes())
    file.write_text(json.dumps([exit_code(*command) for command in commands]))
