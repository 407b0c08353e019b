"""A trained network with its data, from a checkpoint alone: the file says how it was trained."""

from __future__ import annotations

import argparse
import sys
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
    other_samples,
    refuse_other_classes,
)
from experiment.flag.lookup import flags_of
from experiment.flag.parser import warn_about
from experiment.flag.row import silenced
from experiment.flag.saved import checked_flags, experiment_of, flags_beside
from experiment.train.task import Data
from model import RateModel
from util.checkpoint import CheckpointError, load_checkpoint
from util.file.record import MetricsFile


class Trained(NamedTuple):
    """A checkpoint at work.

    net: the network in eval mode, on the device asked for; data: its data set, None if it was not
    asked for, and description: that of the training; arguments: every flag of the training run;
    epochs: how many it had been trained for; records: the run's metrics.jsonl up to there, empty if
    it is not beside the checkpoint; averaged: whether its weights are an average (--ema).
    """

    path: Path
    net: RateModel
    data: Data | None
    description: DataDescription
    arguments: dict[str, Any]
    epochs: int
    records: list[dict[str, Any]]
    averaged: bool

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
    if data_path is not None:
        args.data_path = data_path
    with _refused_as(f"checkpoint {path} cannot be used"):
        description = description_in(state)
    data = None
    if with_data or description is None:
        data = experiment.data_of(args)
        found = describe_data(data)
        with _refused_as(f"checkpoint {path} does not fit"):
            refuse_other_classes(description, found)
        if (doubt := other_samples(description, found)) is not None:
            print(f"warning: {path}: {doubt}", file=sys.stderr)
        description = description or found
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
    net.execution = net.execution._replace(sparse=False)  # that is for each command to say
    net.to(device, memory_format=torch.channels_last).eval()
    epochs = state.get("epoch", 0)
    records = _records(path.parent, epochs)
    averaged = state.get("averaged", False)
    return Trained(path, net, data, description, vars(args), epochs, records, averaged)


@contextmanager
def _refused_as(sentence: str) -> Iterator[None]:
    """A ValueError in here is one about the checkpoint."""
    try:
        yield
    except ValueError as error:
        raise CheckpointError(f"{sentence}: {error}") from error


def arguments_of(state: dict[str | int, Any], path: Path) -> tuple[argparse.Namespace, ModuleType]:
    """Every flag of the run that saved a checkpoint, where its data lie, and its experiment.

    Raises: CheckpointError for a checkpoint that says too little.
    """
    arguments = state.get("arguments")
    if not isinstance(arguments, dict) or "model" not in state:
        raise CheckpointError(
            f"checkpoint {path} has no entries 'arguments' and 'model': name one that a run of "
            "this program has saved, such as best.pt"
        )
    experiment = import_module(f"experiment.{experiment_of(arguments, path)}.main")
    parser = experiment.get_parser()
    args, flags = parser.parse_args([]), parser.flags()
    vars(args).update(checked_flags(arguments, flags, path) | flags_beside(path, flags))
    return args, experiment


def warn_of_unread_path(args: argparse.Namespace, data: Data | None) -> None:
    if data is None:
        warn_about(["data_path"], "the network knows its classes, and needs no data set")
        return
    for condition, silent in silenced(flags_of(args.dataset), args).items():
        if "data_path" in silent:
            warn_about(["data_path"], condition.reason)


def _records(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The records of the epochs that the checkpoint has seen."""
    try:
        return MetricsFile(folder / "metrics.jsonl").read()[:epochs]
    except (OSError, ValueError):
        return []
