"""What the benchmark commands share on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch

from experiment.failure import one_sentence_errors, refuse_lost_output
from experiment.flag_parser import FlagParser, number
from util.atomic_file import write_atomically
from util.new_folder import refuse_unusable

Result = TypeVar("Result")

whole_number = number(int, 1)  # an argparse type: what is counted here is there at least once


def run(main: Callable[[], Result]) -> Result:
    """What a command's main returns; what its user can cause ends it with one sentence.

    Raises: SystemExit with a code of `failure`.
    """
    less_memory = "try a smaller batch, fewer time steps or a smaller network"
    with one_sentence_errors({}, less_memory=less_memory, interrupted="stopped"):
        result = main()
        refuse_lost_output()
        return result


class Parser(FlagParser):
    """A parser whose help begins with the module's docstring as it stands."""

    def __init__(self, description: str):
        super().__init__(description)
        self.formatter_class = argparse.RawDescriptionHelpFormatter

    def make_folder(self, folder: Path | None) -> None:
        """Make the folder of --output, if there is one, before anything is measured for it."""
        if folder is None:
            return
        try:
            refuse_unusable(folder, "output")
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            self.error(str(error))

    def write(self, folder: Path | None, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files into the folder of --output, if there is one, and name them."""
        if folder is None:
            return
        for name, content in files:
            try:
                write_atomically(folder / name, content)
            except OSError as error:
                self.error(f"--output {folder}: {error}")
            print(f"wrote {folder / name}")


def device(text: str) -> str:
    """An argparse type: a device that this machine has."""
    if text.partition(":")[0] not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if text != "cpu" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"there is no GPU here that torch can use, got {text!r}")
    return text
