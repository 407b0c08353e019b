"""How a network is trained: the numbers of a recipe, its optimizer and its schedule."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from experiment.flag.experiment_flags import grouped
from experiment.flag.row import OWN, Role
from experiment.flag.table import SHARED
from util.misc import parameter_groups

ROWS = [row for row in grouped(SHARED) if row.role in (Role.TRAINING, Role.LOOP)]
FIELDS = [
    (row.name, Any, field() if row.default is OWN else field(default=row.default)) for row in ROWS
]


@dataclass(frozen=True, kw_only=True)
class Recipe(make_dataclass("Fields", FIELDS, frozen=True, kw_only=True)):
    """Everything that training depends on beside the network and the data.

    A field for each flag of the recipe and of how it is carried out; their rows in
    `experiment.flag.table` say what each is, in which unit, and its default.
    """

    @property
    def batch_sizes(self) -> dict[str, int]:
        """What decides the memory taken, by flag."""
        return {"train_batch_size": self.train_batch_size, "val_batch_size": self.val_batch_size}


def make_optimizer(net: nn.Module, recipe: Recipe) -> Optimizer:
    """SGD with momentum 0.9, or Adam; no weight decay on biases and batch norms."""
    groups = parameter_groups(net, recipe.wd)
    if recipe.optim == "SGDM":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9)
    assert recipe.optim == "Adam", recipe.optim
    return torch.optim.Adam(groups, lr=recipe.lr)


def make_scheduler(optimizer: Optimizer, recipe: Recipe) -> LRScheduler:
    """Cosine annealing to 0 over num_epoch, one step per epoch."""
    assert recipe.scheduler == "COSINE", recipe.scheduler
    return CosineAnnealingLR(optimizer, T_max=recipe.num_epoch)
