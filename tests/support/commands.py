"""The commands of this project: every file whose `main` takes arguments."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMANDS = [
    str(path.relative_to(ROOT))
    for package in ("benchmark", "experiment")
    for path in sorted((ROOT / package).rglob("*.py"))
    if re.search(r"^def main\(argv", path.read_text(), re.MULTILINE)
]
