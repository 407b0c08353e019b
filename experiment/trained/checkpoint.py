"""A trained network with its data, from a checkpoint alone: the file says how it was trained."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from experiment.dvs.source import DATASETS as EVENT_DATASETS
from experiment.engine import Data
from experiment.flag_parser import FlagParser
from model import RateModel
from util.checkpoint import CheckpointError, load_checkpoint
from util.data import DATASETS as SMALL_IMAGES

EXPERIMENTS = {"cifar": SMALL_IMAGES, "dvs": EVENT_DATASETS, "imagenet": ("imagenet",)}


class Trained(NamedTuple):
    """A checkpoint at work.

    net: the network in eval mode, on the device asked for; data: its data set; arguments: every
    flag of the training run; epochs: how many it had been trained for; records: the run's
    metrics.jsonl up to there, empty if it is not beside the checkpoint.
    """

    path: Path
    net: RateModel
    data: Data
    arguments: dict[str, Any]
    epochs: int
    records: list[dict[str, Any]]

    @property
    def title(self) -> str:
        """The network and its data for the head of a picture."""
        arguments = self.arguments
        return f"{arguments['arch']}, T = {self.net.T}, {self.data.name}"


def load_trained(path: Path, device: torch.device, *, data_path: Path | None = None) -> Trained:
    """Rebuild network and data of a checkpoint of ours; a GPU computes as in its training (--tf32).

    Args: data_path: where the data set lies now; None is where it lay in training (what
    config.json beside the checkpoint says), or the experiment's default folder.
    Raises: CheckpointError (a ValueError) for a file that is none, or that says too little;
    FileNotFoundError for missing data.
    """
    state = load_checkpoint(path)
    arguments = state.get("arguments")
    if not isinstance(arguments, dict) or "model" not in state:
        raise CheckpointError(f"checkpoint {path} has no entries 'arguments' and 'model': name one "
                              "that a run of this program has saved, such as best.pt")  # fmt: skip
    experiment = experiment_of(arguments.get("dataset"), path)
    args = parsed(experiment.get_parser(), arguments, path)
    args.data_path = data_path or _data_path(path.parent) or args.data_path
    torch.backends.cudnn.allow_tf32 = args.tf32
    data = experiment.data_of(args)
    net = experiment.network_of(args, data)
    try:
        net.load_state_dict(state["model"])
    except RuntimeError as error:
        raise CheckpointError(
            f"the weights in {path} do not fit the network that its arguments name "
            f"({' '.join(str(error).split())[:200]}): use the version of the program that saved it"
        ) from error
    net.to(device, memory_format=torch.channels_last).eval()
    records = _records(path.parent, state.get("epoch", 0))
    return Trained(path, net, data, vars(args), state.get("epoch", 0), records)


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


def _data_path(folder: Path) -> Path | None:
    """Where config.json in the run folder says that the data lay; None if there is none of ours."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return Path(config["arguments"]["data_path"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _records(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The records of the epochs that the checkpoint has seen."""
    try:
        lines = (folder / "metrics.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines[:epochs]]
    except (OSError, ValueError):
        return []
