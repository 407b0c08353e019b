"""What the benchmark commands share: flags, files that they write, and how they end."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmark.speed.measure import machine, machine_in_words
from benchmark.speed.workload import Workload
from experiment.flag.kinds import Whole, expanded_path
from experiment.flag.parser import FlagParser
from experiment.train.failure import one_sentence_errors, refuse_lost_output
from model import MODELS
from model.kernel.sparse import library
from util.figure import as_utf8
from util.file.atomic import write_atomically
from util.file.named_folder import refuse_unusable

Result = TypeVar("Result")

whole_number = Whole(1)  # an argparse type: what is counted here is there at least once


def device(text: str) -> str:
    """An argparse type: a device that this machine has."""
    if text.partition(":")[0] not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"expected cpu or cuda, got {text!r}")
    if text != "cpu" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"there is no GPU here that torch can use, got {text!r}")
    return text


SHARED = {  # flag: what parses it, or its choices; its help
    "arch": (MODELS, "network"),
    "T": (whole_number, "time steps"),
    "batch": (whole_number, "samples B"),
    "size": (whole_number, "pixels per side"),
    "in_channels": (whole_number, "input channels"),
    "num_classes": (whole_number, "classes K"),
    "width": (whole_number, "channels of the first stage (default: the paper's)"),
    "repeats": (whole_number, "timed rounds"),
    "warmup": (whole_number, "untimed rounds"),
    "threads": (whole_number, "CPU threads"),
    "device": (device, "cpu or cuda"),
}


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

    def add_shared(self, **defaults: Any) -> None:
        """Flags of SHARED with these defaults; one that has none says in its help what it does."""
        for name, default in defaults.items():
            kind, text = SHARED[name]
            how = {"type": kind} if callable(kind) else {"choices": kind}
            text += "" if default is None else " (default: %(default)s)"
            self.add_argument(f"--{name}", default=default, help=text, **how)

    def add_output(self, text: str, default: Path | None = None) -> None:
        self.add_argument(
            "--output", type=expanded_path, default=default, metavar="FOLDER", help=text
        )

    def make_folder(self, folder: Path | None) -> None:
        """Make the folder of --output, if there is one, before anything is measured for it."""
        if folder is None:
            return
        try:
            refuse_unusable(folder, "output")
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            self.error(str(error))

    def publish(self, folder: Path | None, name: str, paragraphs: Sequence[str]) -> str:
        """Print paragraphs, and write them to `name` in the folder of --output, if there is one."""
        text = "\n\n".join(paragraphs) + "\n"
        print(text)
        self.write(folder, [(name, as_utf8(text))])
        return text

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


def workload_of(args: argparse.Namespace, T: int, *, branches: bool = True) -> Workload:
    """The step that the shared flags describe; what a command has no flag for is the default."""
    given = {f.name: value for f in fields(Workload) if (value := getattr(args, f.name, None))}
    return Workload(**{**given, "T": T, "branches": branches})


def compiled_page(
    parser: Parser,
    args: argparse.Namespace,
    paragraphs: Sequence[str],
    table: Callable[[Workload], str],
    name: str,
) -> str:
    """A page with a table that measures the compiled operators on the step that args describe."""
    parser.make_folder(args.output)
    torch.set_num_threads(args.threads)
    if not library.is_available():
        parser.error("the operators could not be compiled here, for the reason given above")
    workload = workload_of(args, args.T, branches=False)
    conditions = [machine_in_words(machine("cpu")), workload.in_words()]
    return parser.publish(args.output, name, [*paragraphs, *conditions, table(workload)])


def command_line(name: str, argv: Sequence[str] | None) -> str:
    """The command that runs, for what it writes; argv: None is the process's own."""
    words = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", "-m", f"benchmark.speed.{name}", *map(str, words)])
