"""What the benchmark commands share on the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

import torch

from util.atomic_file import write_atomically


class Parser(argparse.ArgumentParser):
    """A parser whose help is the module's docstring and whose errors are one sentence, exit 2."""

    def __init__(self, description: str):
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}", file=sys.stderr)
        raise SystemExit(2)

    def make_folder(self, folder: Path | None) -> None:
        """Make the folder of --output, if there is one, before anything is measured for it."""
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.error(f"--output {folder}: {error}")

    def write(self, folder: Path | None, files: dict[str, bytes]) -> None:
        """Write files into the folder of --output, if there is one, and name them."""
        if folder is None:
            return
        for name, content in files.items():
            try:
                write_atomically(folder / name, content)
            except OSError as error:
                self.error(f"--output {folder}: {error}")
            print(f"wrote {folder / name}")


def whole_number(text: str) -> int:
    """An argparse type: a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return value


def device(text: str) -> str:
    """An argparse type: a device that this machine has."""
    if text.partition(":")[0] not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if text != "cpu" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"there is no GPU here that torch can use, got {text!r}")
    return text
