"""A trained network with its data, from a checkpoint alone: the file says how it was trained."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from experiment.data_description import (
    DataDescription,
    describe_data,
    description_in,
    refuse_other_classes,
)
from experiment.dvs.source import DATASETS as EVENT_DATASETS
from experiment.engine import Data
from experiment.flag_parser import FlagParser, warn_about
from model import RateModel
from util.checkpoint import CheckpointError, load_checkpoint
from util.data import DATASETS as SMALL_IMAGES

EXPERIMENTS = {"cifar": SMALL_IMAGES, "dvs": EVENT_DATASETS, "imagenet": ("imagenet",)}


class Saved(NamedTuple):
    """What a checkpoint says, before network or data are built.

    arguments: every flag of the training run; description: of its data, None if an earlier version
    saved it; weights, epochs: of the network, and how many it had been trained for.
    """

    path: Path
    arguments: argparse.Namespace
    description: DataDescription | None
    weights: dict[str, Tensor]
    epochs: int

    @property
    def experiment(self) -> ModuleType:
        """The `main` module of its experiment."""
        return experiment_of(self.arguments.dataset, self.path)

    def load_data(self) -> Data:
        """Its data set. Raises: CheckpointError if that has other classes by now."""
        data = self.experiment.data_of(self.arguments)
        try:
            refuse_other_classes(self.description, describe_data(data))
        except ValueError as error:
            raise CheckpointError(f"checkpoint {self.path} does not fit: {error}") from error
        return data

    def build(self, data: Data | DataDescription, device: torch.device) -> RateModel:
        """The network for these data in eval mode; a GPU computes as in its training (--tf32)."""
        torch.backends.cudnn.allow_tf32 = self.arguments.tf32
        net = self.experiment.network_of(self.arguments, data)
        try:
            net.load_state_dict(self.weights)
        except RuntimeError as error:
            raise CheckpointError(
                f"the weights in {self.path} do not fit the network that its arguments name "
                f"({' '.join(str(error).split())[:200]}): use the version of the program that "
                "saved it"
            ) from error
        return net.to(device, memory_format=torch.channels_last).eval()


class Trained(NamedTuple):
    """A checkpoint at work.

    net: the network in eval mode, on the device asked for; data: its data set, and description:
    that of the training; arguments: every flag of the training run; epochs: how many it had been
    trained for; records: the run's metrics.jsonl up to there, empty if it is not beside the
    checkpoint.
    """

    path: Path
    net: RateModel
    data: Data
    description: DataDescription
    arguments: dict[str, Any]
    epochs: int
    records: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """The network and its data for the head of a picture."""
        arguments = self.arguments
        return f"{arguments['arch']}, T = {self.net.T}, {self.data.name}"


def load_trained(path: Path, device: torch.device, *, data_path: Path | None = None) -> Trained:
    """Rebuild network and data of a checkpoint of ours.

    Args: data_path: see `read_saved`; it is warned about where the data need no files.
    Raises: CheckpointError (a ValueError) for a file that is none, that says too little, or whose
    data have other classes by now; FileNotFoundError for missing data.
    """
    saved = read_saved(path, data_path=data_path)
    if data_path is not None:
        for rule in saved.experiment.get_parser().idle:
            if "data_path" in rule.flags and rule.applies(saved.arguments):
                warn_about(["data_path"], rule.reason)
    data = saved.load_data()
    net = saved.build(data, device)
    description = saved.description or describe_data(data)
    records = _records(path.parent, saved.epochs)
    return Trained(path, net, data, description, vars(saved.arguments), saved.epochs, records)


def read_saved(path: Path, *, data_path: Path | None = None) -> Saved:
    """Read a checkpoint of ours.

    Args: data_path: where the data set lies now; None is where it lay in training (what
    config.json beside the checkpoint says), or the experiment's default folder.
    Raises: CheckpointError for a file that is none, or that says too little.
    """
    state = load_checkpoint(path)
    arguments = state.get("arguments")
    if not isinstance(arguments, dict) or "model" not in state:
        raise CheckpointError(f"checkpoint {path} has no entries 'arguments' and 'model': name one "
                              "that a run of this program has saved, such as best.pt")  # fmt: skip
    experiment = experiment_of(arguments.get("dataset"), path)
    args = parsed(experiment.get_parser(), arguments, path)
    places = _places(path.parent) | ({} if data_path is None else {"data_path": data_path})
    vars(args).update(places)
    try:
        description = description_in(state)
    except ValueError as error:
        raise CheckpointError(f"checkpoint {path} cannot be used: {error}") from error
    return Saved(path, args, description, state["model"], state.get("epoch", 0))


def experiment_of(dataset: str | None, path: Path) -> ModuleType:
    """The `main` module of the experiment that has this data set."""
    for name, datasets in EXPERIMENTS.items():
        if dataset in datasets:
            return import_module(f"experiment.{name}.main")
    known = ", ".join(name for datasets in EXPERIMENTS.values() for name in datasets)
    raise CheckpointError(
        f"checkpoint {path} was trained on data set {dataset!r}: expected one of {known}"
    )


def parsed(parser: FlagParser, arguments: dict[str, Any], path: Path) -> argparse.Namespace:
    """A run's flags with the values in its checkpoint, each by the parser's own rules.

    Raises: CheckpointError for a flag that is not known, or a value that it does not take.
    """
    flags = parser.flags()
    args = parser.parse_args([])
    for name, value in arguments.items():
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
    starts = (Path(), run_folder.absolute().parent.parent, Path(__file__).parents[2])
    return next((start / path for start in starts if (start / path).exists()), path)


def _records(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The records of the epochs that the checkpoint has seen."""
    try:
        lines = (folder / "metrics.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines[:epochs]]
    except (OSError, ValueError):
        return []
