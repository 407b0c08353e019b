"""Checkpoints as a run leaves them, of small networks, without the minutes of a training."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from experiment.cifar import main as cifar
from experiment.data_description import describe_data
from experiment.flag.values import request_of
from experiment.imagenet import main as imagenet
from experiment.trained.evaluate import count_scores
from experiment.trained.part.evaluation_set import EvaluationSet
from experiment.trained.part.trained_network import Trained, load_trained
from model import RateModel
from util.checkpoint import save_checkpoint
from util.process.distributed import Group

CPU = torch.device("cpu")
SMALL = {
    cifar: ("--dataset", "Digits", "--width", "2", "--T", "3"),
    imagenet: ("--arch", "resnet18", "--image_size", "32", "--width", "2", "--T", "2"),
}


@torch.no_grad()
def stir(net: RateModel, seed: int = 0) -> RateModel:
    """Give every batch norm statistics and an affine map of its own, in place."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 1.0, generator=generator)
            module.weight.uniform_(1.0, 2.5, generator=generator)
            module.bias.normal_(0.3, 0.3, generator=generator)
    return net


def make_checkpoint(
    folder: Path, *flags: str, experiment: ModuleType = cifar, **entries: Any
) -> Path:
    """A best.pt of a network with random weights, trained with `flags` by what it says."""
    args = experiment.get_parser().parse_args([*SMALL[experiment], *flags])
    torch.manual_seed(args.seed)
    data = experiment.data_of(args)
    net = stir(experiment.network_of(args, data))
    identity, description = request_of(args).identity, describe_data(data).plain()
    state = {"arguments": identity, "data": description, "model": net.state_dict(), "epoch": 3}
    path = folder / "best.pt"
    save_checkpoint({**state, **entries}, path)
    return path


def make_trained(folder: Path, *flags: str, experiment: ModuleType = cifar) -> Trained:
    """The network of `make_checkpoint`, with its data."""
    return load_trained(make_checkpoint(folder, *flags, experiment=experiment), CPU)


def first_samples(trained: Trained, count: int) -> tuple[Tensor, Tensor]:
    """The first test images as the network takes them, and their labels."""
    images, labels = zip(*(trained.data.test[i] for i in range(count)), strict=True)
    return trained.data.to_input(torch.stack(images)), torch.tensor(labels)


def evaluate_share(group: Group, path: str, images: int) -> dict[str, Any]:
    """What a process of a group finds in an evaluation."""
    trained = load_trained(Path(path), group.device)
    return count_scores(trained, EvaluationSet(trained.data, group, images, 32))
