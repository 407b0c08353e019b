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
    """Rebuild network and data of a checkpoint of ours.

    Args: data_path: where the data set lies now; None is where it lay in training (what
    config.json beside the checkpoint says), or the experiment's default folder.
    Raises: CheckpointError (a ValueError) for a file that is none, or that says too little;
    FileNotFoundError for missing data.
    """
    state = load_checkpoint(path)
    if "arguments" not in state or "model" not in state:
        raise CheckpointError(f"checkpoint {path} has no entries 'arguments' and 'model': name one "
                              "that a run of this program has saved, such as best.pt")  # fmt: skip
    arguments = state["arguments"]
    experiment = experiment_of(arguments.get("dataset"), path)
    args = experiment.get_parser().parse_args([])
    saved = {**_folder_arguments(path.parent), **arguments}
    for name, value in saved.items():
        if hasattr(args, name):
            default = getattr(args, name)
            setattr(args, name, Path(value) if isinstance(default, Path) else value)
    if data_path is not None:
        args.data_path = data_path
    net, data = _build(args, experiment, path)
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


def _build(args: argparse.Namespace, experiment: ModuleType, path: Path) -> tuple[RateModel, Data]:
    try:
        data = experiment.data_of(args)
        return experiment.network_of(args, data), data
    except AttributeError as error:
        raise CheckpointError(
            f"checkpoint {path} has arguments that this version does not know ({error}): use the "
            "version of the program that saved it"
        ) from error


def _folder_arguments(folder: Path) -> dict[str, Any]:
    """What config.json in the run folder says beyond the checkpoint: where the data lay."""
    try:
        return json.loads((folder / "config.json").read_bytes())["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _records(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The records of the epochs that the checkpoint has seen."""
    try:
        lines = (folder / "metrics.jsonl").read_bytes().splitlines()
        return [json.loads(line) for line in lines[:epochs]]
    except (OSError, ValueError):
        return []
