"""What the commands on a checkpoint share: flags, where results go, how they end."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from experiment.flag.kinds import Whole, expanded_path
from experiment.flag.parser import FlagParser
from experiment.packages import refuse_missing
from experiment.train.failure import one_sentence_errors
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.trained_network import Trained, load_trained
from util.file.named_folder import folder_problem, refuse_unusable
from util.process.distributed import Group, process_group


def checkpoint_parser(
    description: str, *, out: str, images: str, usual: int | None = None, batch_size: int = 128
) -> FlagParser:
    """Flags of every command on a checkpoint.

    out: what the folder of its results is called, before the checkpoint's name; images: what the
    first --images of the test set are for; usual: how many they are by default, if there are so
    many (see `EvaluationSet.first`).
    """
    parser = FlagParser(description)
    add = parser.add_argument
    text = "best.pt, last.pt or another checkpoint of a run; the file says what it holds"
    add("checkpoint", type=expanded_path, metavar="CHECKPOINT", help=text)
    text = f"where the results go; default: {out}-NAME beside the checkpoint NAME.pt"
    add("--out", type=expanded_path, metavar="FOLDER", help=text)
    text = "where the data set lies; default: where it lay in training"
    add("--data_path", type=expanded_path, metavar="FOLDER", help=text)
    add("--device", help="cpu, cuda or cuda:N; default: cuda if there is one")
    text = "images at a time, over all processes"
    add("--batch_size", type=Whole(1), default=batch_size, metavar="IMAGES", help=text)
    text = "processes that load data from files; 0: none beside this one"
    add("--num_workers", type=Whole(0, 1024), default=0, metavar="PROCESSES", help=text)
    shown = "all" if usual is None else f"{usual}, or all if there are fewer"
    text = f"{images}: the first so many of the test set; default: {shown}"
    add("--images", type=Whole(1), metavar="COUNT", help=text)
    return parser


def add_sparse(parser: FlagParser) -> None:
    """The flag of the commands that are nothing but inference."""
    text = (
        "on a CPU, skip silent inputs in convolutions of spikes wherever that takes less time; "
        "each is the same up to rounding; needs a C++ compiler; default: on"
    )
    action = argparse.BooleanOptionalAction
    parser.add_argument("--sparse", action=action, default=True, help=text)


class Results(NamedTuple):
    """The folder of a command's results, and patterns of the names that it may write there."""

    folder: Path
    products: Sequence[str]

    def make_room(self, *, remove: bool = False) -> Path:
        """Make the folder if it is not there, and return it; a refused command leaves none.

        remove: what an earlier call left of the products, where this one may not write all of
        them: a folder never mixes two checkpoints.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.written() if remove else ():
            path.unlink()
        return self.folder

    def written(self) -> list[Path]:
        """The products that are there."""
        return [path for pattern in self.products for path in sorted(self.folder.glob(pattern))]

    def print_written(self) -> None:
        """The last line that a command prints: its files."""
        print("written: " + ", ".join(map(str, self.written())))


class Opened(NamedTuple):
    """What a command on a checkpoint works with; tests: the whole test set, read as flags say."""

    trained: Trained
    results: Results
    tests: EvaluationSet


@contextmanager
def opened(
    args: argparse.Namespace,
    name: str,
    products: Sequence[str],
    *,
    sizes: Mapping[str, int] | None = None,
    packages: Sequence[str] = (),
    shared: bool = False,
) -> Iterator[Opened]:
    """A checkpoint and its data, by the flags of `checkpoint_parser`, for as long as they are used.

    name: of the folder for `products`, before the checkpoint's; sizes: further flags that decide
    how much memory is taken; packages: what the command takes beside; shared: whether several
    processes may take part.
    What users can cause, inside too, ends the command with one sentence and code 2. That no results
    could be written is found before anything is loaded.
    """
    sizes = {"batch_size": args.batch_size, **(sizes or {})}
    with command(args.device, shared=shared, **sizes) as group:
        refuse_missing(*packages)
        folder = group.from_first(lambda: results_folder(args.out, args.checkpoint, name))
        trained = load_trained(args.checkpoint, group.device, data_path=args.data_path)
        reading = {"batch_size": args.batch_size, "num_workers": args.num_workers}
        tests = EvaluationSet(trained.data, group, **reading)
        yield Opened(trained, Results(folder, products), tests)


@contextmanager
def command(device: str | None, *, shared: bool = False, **sizes: int) -> Iterator[Group]:
    """The processes of a command; what users can cause ends it with one sentence and code 2.

    shared: whether there may be several; sizes: flags that decide how much memory is taken.
    """
    errors = one_sentence_errors(
        sizes,
        less_memory="try smaller ones" if sizes else "--device names a device that may have more",
        interrupted="stopped before the end; the same command begins again",
    )
    with errors, process_group(device) as group:
        if group.world_size > 1 and not shared:
            raise ValueError(
                f"{group.world_size} processes: this command runs in one, start it with python "
                "instead of torchrun"
            )
        yield group


def results_folder(out: Path | None, checkpoint: Path, name: str) -> Path:
    """The folder for results, by default one for each name of a checkpoint.

    Raises: ValueError if nothing could be written there.
    """
    if out is not None:
        refuse_unusable(out, "out")
        return out
    folder = checkpoint.parent / f"{name}-{checkpoint.stem}"
    problem = folder_problem(folder) if checkpoint.exists() else None
    if problem is not None:
        raise ValueError(
            f"results cannot go beside the checkpoint ({problem}): name another folder with --out"
        )
    return folder
