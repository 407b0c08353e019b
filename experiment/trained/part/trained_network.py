"""A trained network with its data, from a checkpoint alone: the file says how it was trained."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from experiment.data_description import (
    DataDescription,
    describe_data,
    description_in,
    refuse_other_classes,
)
from experiment.flag.lookup import all_datasets, experiment_with, flags_of
from experiment.flag.parser import FlagParser, warn_about
from experiment.flag.row import silenced
from experiment.train.task import Data
from model import RateModel
from util.checkpoint import CheckpointError, load_checkpoint
from util.file.record import MetricsFile


class Trained(NamedTuple):
    """A checkpoint at work.

    net: the network in eval mode, on the device asked for; data: its data set, None if it was not
    asked for, and description: that of the training; arguments: every flag of the training run;
    epochs: how many it had been trained for; records: the run's metrics.jsonl up to there, empty if
    it is not beside the checkpoint.
    """

    path: Path
    net: RateModel
    data: Data | None
    description: DataDescription
    arguments: dict[str, Any]
    epochs: int
    records: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """The network and its data for the head of a picture."""
        return f"{self.arguments['arch']}, T = {self.net.T}, {self.description.name}"


def load_trained(
    path: Path, device: torch.device, *, data_path: Path | None = None, with_data: bool = True
) -> Trained:
    """Rebuild the network of a checkpoint of ours, and its data.

    Args:
        data_path: where the data set lies now; None is where it lay in training (what config.json
            beside the checkpoint says), or the experiment's default folder. It is warned about
            where no files are read.
        with_data: False loads a data set only for a checkpoint of an earlier version, which does
            not say what its network has to know of it.
    Raises: CheckpointError (a ValueError) for a file that is none, that says too little, or whose
    data have other classes by now; FileNotFoundError for missing data.
    """
    state = load_checkpoint(path)
    args, experiment = arguments_of(state, path)
    given = {} if data_path is None else {"data_path": data_path}
    vars(args).update(_places(path.parent) | given)
    with _refused_as(f"checkpoint {path} cannot be used"):
        description = description_in(state)
    data = None
    if with_data or description is None:
        data = experiment.data_of(args)
        with _refused_as(f"checkpoint {path} does not fit"):
            refuse_other_classes(description, describe_data(data))
        description = description or describe_data(data)
    if data_path is not None:
        warn_of_unread_path(args, data)
    torch.backends.cudnn.allow_tf32 = args.tf32  # a GPU computes as in the training
    net = experiment.network_of(args, description if data is None else data)
    try:
        net.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {path} do not fit the network that its arguments name "
            f"({' '.join(str(error).split())[:200]}): use the version of the program that saved it"
        ) from error
    net.to(device, memory_format=torch.channels_last).eval()
    epochs = state.get("epoch", 0)
    records = _records(path.parent, epochs)
    return Trained(path, net, data, description, vars(args), epochs, records)


@contextmanager
def _refused_as(sentence: str) -> Iterator[None]:
    """A ValueError in here is one about the checkpoint."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{sentence}: {error}") from error


def arguments_of(state: dict[str | int, Any], path: Path) -> tuple[argparse.Namespace, ModuleType]:
    """Every flag of the run that saved a checkpoint, and its experiment.

    Raises: CheckpointError for a checkpoint that says too little.
    """
    arguments = state.get("arguments")
    if not isinstance(arguments, dict) or "model" not in state:
        raise CheckpointError(
            f"checkpoint {path} has no entries 'arguments' and 'model': name one that a run of "
            "this program has saved, such as best.pt"
        )
    dataset = arguments.get("dataset")
    name = experiment_with(dataset)
    if name is None:
        raise CheckpointError(
            f"checkpoint {path} was trained on data set {dataset!r}: expected one of "
            f"{', '.join(all_datasets())}"
        )
    experiment = import_module(f"experiment.{name}.main")
    return parsed(experiment.get_parser(), arguments, path), experiment


def warn_of_unread_path(args: argparse.Namespace, data: Data | None) -> None:
    if data is None:
        warn_about(["data_path"], "the network knows its classes, and needs no data set")
        return
    for condition, silent in silenced(flags_of(args.dataset), args).items():
        if "data_path" in silent:
            warn_about(["data_path"], condition.reason)


def parsed(parser: FlagParser, arguments: dict[str, Any], path: Path) -> argparse.Namespace:
    """A run's flags with the values in its checkpoint, each by the parser's own rules.

    One that there is no more, and that was off, is left out.
    Raises: CheckpointError for a flag that is not known, or a value that it does not take.
    """
    flags = parser.flags()
    args = parser.parse_args([])
    for name, value in arguments.items():
        if name not in flags and value in (None, False):
            continue
        try:
            setattr(args, name, _checked(flags.get(name), value))
        except argparse.ArgumentTypeError as error:
            raise CheckpointError(
                f"checkpoint {path} was saved with {name} {value!r}, which this version does not "
                f"take ({error}): use the version of the program that saved it"
            ) from error
    return args


def _checked(flag: argparse.Action | None, value: Any) -> Any:
    """A value as the flag's parser gives it; None is what several flags have for a word."""
    if flag is None:
        raise argparse.ArgumentTypeError("there is no such flag")
    if flag.choices is not None and value not in list(flag.choices):
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(flag.choices)}")
    if value is None:
        return None
    if isinstance(value, bool) != isinstance(flag, argparse.BooleanOptionalAction):
        raise argparse.ArgumentTypeError("switches are true or false, and others are not")
    return value if flag.type is None or isinstance(value, bool) else flag.type(str(value))


def _places(folder: Path) -> dict[str, Path]:
    """Where the run in this folder had its data, by flag; none if its config.json is not ours."""
    try:
        arguments = json.loads((folder / "config.json").read_bytes())["arguments"]
        given = {name: arguments.get(name) for name in ("data_path", "cache_path")}
        return {name: _found(Path(text), folder) for name, text in given.items() if text}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _found(path: Path, run_folder: Path) -> Path:
    """A place that config.json names; earlier versions named it from where the run was started.

    That is mostly here, two folders above the run's, or where the program lies.
    """
    starts = (Path(), run_folder.absolute().parent.parent, Path(__file__).parents[3])
    return next((start / path for start in starts if (start / path).exists()), path)


def _records(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The records of the epochs that the checkpoint has seen."""
    try:
        return MetricsFile(folder / "metrics.jsonl").read()[:epochs]
    except (OSError, ValueError):
        return []
