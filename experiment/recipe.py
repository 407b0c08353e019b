"""How a network is trained: the numbers of a recipe, its optimizer and its schedule."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from util.misc import parameter_groups

OPTIMIZERS = ("SGDM", "Adam")
SCHEDULERS = ("COSINE",)
PRECISIONS = ("none", "bf16-backward", "bf16")


@dataclass(frozen=True)
class Recipe:
    """Everything that training depends on beside the network and the data.

    seed: of weights, order and augmentation.
    num_epoch, train_batch_size, val_batch_size: epochs, and images per step over all processes.
    num_workers: processes that load data.
    optim, lr, wd, scheduler: names and numbers of the update; weight decay spares biases and batch
        norms.
    alp, beta: weights of the branches' cross-entropies and of the soft terms.
    teacher: a key of `model.TEACHERS`.
    amp: one of PRECISIONS; "bf16" runs convolutions and linear layers in bfloat16.
    tf32: whether a GPU's convolutions may round fp32 numbers to TF32.
    checkpoint_every: steps between checkpoints inside an epoch, or None for none.
    keep_checkpoints: newest checkpoints kept.
    sync_bn: whether batch norms see the images of all processes as one batch.
    accum: parts in which each process takes its share of a step's images, one after the other.
    cuda_graph: whether forward and backward are replayed as a CUDA graph.
    """

    seed: int
    num_epoch: int
    train_batch_size: int
    val_batch_size: int
    num_workers: int
    optim: str
    lr: float
    wd: float
    scheduler: str
    alp: float
    beta: float
    teacher: str = "reliable"
    amp: str = "none"
    tf32: bool = True
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2
    accum: int = 1
    sync_bn: bool = False
    cuda_graph: bool = False

    @property
    def batch_sizes(self) -> dict[str, int]:
        """What decides the memory taken, by flag."""
        return {
            "train_batch_size": self.train_batch_size,
            "val_batch_size": self.val_batch_size,
        }


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
