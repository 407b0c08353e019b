"""Checkpoints as a run leaves them, of small networks, without the minutes of a training."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from experiment.cifar import main as cifar
from experiment.data_description import describe_data
from experiment.imagenet import main as imagenet
from experiment.options import make_request
from experiment.trained.checkpoint import load_trained
from experiment.trained.evaluate import evaluate
from model import RateModel
from util.checkpoint import save_checkpoint
from util.distributed import Group

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
    state = {"arguments": make_request(args).identity, "data": describe_data(data).plain(),
             "model": net.state_dict(), "epoch": 3}  # fmt: skip
    path = folder / "best.pt"
    save_checkpoint({**state, **entries}, path)
    return path


def evaluate_share(group: Group, path: str, images: int) -> dict[str, Any]:
    """What a process of a group finds in an evaluation."""
    return evaluate(load_trained(Path(path), group.device), images=images, batch_size=32,
                    group=group)  # fmt: skip
