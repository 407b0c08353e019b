"""What a run writes down beside its weights: whole JSON files and a file of one line per epoch."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from util.file.atomic import described, write_atomically


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all.

    Raises: ValueError for NaN or infinity, which JSON does not have; TypeError for no JSON type;
    OSError if the file could not be written: an earlier one is kept.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


class MetricsFile:
    """A file with one JSON object per line (JSON Lines), on the disk before `append` returns.

    For an exact resume a checkpoint remembers how many lines were written when it was saved;
    `truncate_to` goes back to them, so the file of a resumed run equals that of an unbroken one.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line; if it cannot be written whole, the file stays as it was.

        Raises: ValueError for NaN or infinity in `record`; OSError (disk full, no folder, ...).
        """
        line = json.dumps(dict(record), allow_nan=False).encode() + b"\n"
        try:
            with open(self.path, "ab", buffering=0) as file:
                end = file.tell()
                try:
                    written = 0
                    while written < len(line):
                        written += file.write(line[written:])
                    os.fsync(file.fileno())
                except BaseException:
                    file.truncate(end)
                    raise
        except OSError as error:
            reason = error.strerror or str(error)
            sentence = f"could not append {len(line):,} bytes to {self.path}: {reason}"
            raise described(error, sentence) from error

    def truncate_to(self, count: int) -> None:
        """Keep the first `count` lines and drop the rest, a torn last line included.

        Raises: ValueError if the file holds fewer whole lines than that.
        """
        lines = self._whole_lines()
        if count > len(lines):
            raise ValueError(
                f"{self.path} holds {len(lines)} whole lines, but the checkpoint was saved "
                f"after {count}; restore the file, or start a new run"
            )
        if self.path.exists():
            with open(self.path, "r+b") as file:
                file.truncate(sum(len(line) + 1 for line in lines[:count]))
                os.fsync(file.fileno())

    def read(self) -> list[dict[str, Any]]:
        """All records, oldest first; a torn last line is left out."""
        return [json.loads(line) for line in self._whole_lines()]

    def _whole_lines(self) -> list[bytes]:
        content = self.path.read_bytes() if self.path.exists() else b""
        return content.split(b"\n")[:-1]
