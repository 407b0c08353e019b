"""What the commands on trained networks share: flags, where results go, how they end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from experiment.engine import Data
from experiment.failure import one_sentence_errors
from experiment.finite import FiniteCheck
from experiment.flag_parser import FlagParser, expanded_path, number
from util.distributed import Group, process_group
from util.loader import make_loader
from util.new_folder import folder_problem, refuse_unusable
from util.sampler import EvaluationSampler


def make_parser(description: str, *, out: str, batch_size: int = 128) -> FlagParser:
    """Flags of every command on a checkpoint; `out` is where its results go by default."""
    parser = FlagParser(description)
    add = parser.add_argument
    add(
        "checkpoint",
        type=expanded_path,
        metavar="CHECKPOINT",
        help="best.pt, last.pt or another checkpoint of a run; the file says what it holds",
    )
    add(
        "--out",
        type=expanded_path,
        default=None,
        metavar="FOLDER",
        help=f"where the results go; default: {out} beside the checkpoint",
    )
    add(
        "--data_path",
        type=expanded_path,
        default=None,
        metavar="FOLDER",
        help="where the data set lies; default: where it lay in training",
    )
    add("--device", default=None, help="cpu, cuda or cuda:N; default: cuda if there is one")
    add(
        "--batch_size",
        type=number(int, 1),
        default=batch_size,
        metavar="IMAGES",
        help="images at a time, over all processes",
    )
    add(
        "--num_workers",
        type=number(int, 0, 1024),
        default=0,
        metavar="PROCESSES",
        help="processes that load data from files; 0: none beside this one",
    )
    return parser


def add_images_flag(parser: FlagParser, default: int | None, what: str) -> None:
    """--images: how many of the test set are used; None if it is not given, see `sample_count`."""
    shown = "all" if default is None else f"{default}, or all if there are fewer"
    parser.add_argument("--images", type=number(int, 1), default=None, metavar="COUNT",
        help=f"{what}: the first so many of the test set; default: {shown}")  # fmt: skip


@contextmanager
def command(device: str | None, **sizes: int) -> Iterator[Group]:
    """The processes of a command; what users can cause ends it with one sentence and code 2.

    sizes: flags and values that decide how much memory is taken.
    """
    errors = one_sentence_errors(
        sizes,
        less_memory="try smaller ones" if sizes else "--device names a device that may have more",
        interrupted="stopped before the end; the same command begins again",
    )
    with errors, process_group(device) as group:
        yield group


def refuse_many(group: Group) -> None:
    """ValueError under torchrun: the command is for one process."""
    if group.world_size > 1:
        raise ValueError(f"{group.world_size} processes: this command runs in one, start it with "
                         "python instead of torchrun")  # fmt: skip


def results_folder(out: Path | None, checkpoint: Path, name: str) -> Path:
    """The folder for results; `make_room` makes it, so that a refused command leaves none.

    Raises: ValueError, before minutes of work are done for it, if nothing could be written there.
    """
    if out is not None:
        refuse_unusable(out, "out")
        return out
    folder = checkpoint.parent / name
    problem = folder_problem(folder) if checkpoint.exists() else None
    if problem is not None:
        raise ValueError(
            f"results cannot go beside the checkpoint ({problem}): name another folder with --out"
        )
    return folder


def make_room(folder: Path, products: Sequence[str] = ()) -> None:
    """Make the folder if it is not there.

    What an earlier call left there of `products`, patterns of the names that the command may write,
    is removed: a folder never mixes two checkpoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in products_in(folder, products):
        path.unlink()


def products_in(folder: Path, products: Sequence[str]) -> list[Path]:
    """Those of `products` that are there: after `make_room`, what this call has written."""
    return [path for pattern in products for path in sorted(folder.glob(pattern))]


def sample_count(asked: int | None, default: int, dataset: Dataset) -> int:
    """As many samples as asked for, or the default, which is at most all."""
    return min(default, len(dataset)) if asked is None else asked


def first_samples(dataset: Dataset, count: int | None, *, flag: str = "images") -> Dataset:
    """The first `count` samples, or all.

    Raises: ValueError, naming the flag that asked for them, if there are fewer.
    """
    if count is None:
        return dataset
    if count > len(dataset):
        raise ValueError(f"--{flag} {count}: the test set has only {len(dataset)}")
    return Subset(dataset, range(count))


def batches_of(
    dataset: Dataset, data: Data, *, batch_size: int, num_workers: int, group: Group
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of a data set: (network input, labels) on its device.

    Raises: ValueError in all processes, after the last batch, for samples with NaN or infinity.
    """
    sampler = EvaluationSampler(len(dataset), rank=group.rank, world_size=group.world_size)
    share = -(-batch_size // group.world_size)
    loader = make_loader(
        dataset, batch_size=share, sampler=sampler, num_workers=num_workers, device=group.device
    )
    samples = FiniteCheck(f"the test set of {data.name}", sampler.indices, group)
    with closing(loader):
        for images, labels in loader:
            labels = torch.as_tensor(labels).to(group.device, non_blocking=True)
            x = data.to_input(images.to(group.device, non_blocking=True))
            samples.note(x)
            yield x, labels
    samples.refuse()
