"""From a batch to its gradients: forward, loss and backward, at once or time step by time step.

Shapes: B batch, K classes, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial, reduce
from operator import add
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from experiment.cuda_graph import GraphedPass
from experiment.evaluation import at_least_fp32, autocast
from experiment.recipe import Recipe
from experiment.training_state import TrainingState
from model.activation import Activation
from model.distillation import DistillationLoss
from util.distributed import Group, share_of_batch

LossFunction = Callable[[Sequence[Tensor], Tensor], DistillationLoss]  # of heads and labels


class GradientPass(Protocol):
    """`accumulate_gradients` for one network, loss and recipe."""

    def __call__(
        self, inputs: Tensor, labels: Tensor, *, share: float, exchange: bool
    ) -> tuple[DistillationLoss, Tensor]: ...


def gradient_pass(
    state: TrainingState, loss_function: LossFunction, recipe: Recipe, group: Group
) -> GradientPass:
    """How a batch of this recipe's training becomes gradients.

    With recipe.cuda_graph, full batches are replayed from a CUDA graph. It holds one pass of one
    process, and none that runs layers again.
    """
    method = state.net.method
    accumulate = accumulate_online if method.online else accumulate_gradients
    run = partial(accumulate, state, loss_function, recipe.amp)
    if not recipe.cuda_graph:
        return run
    assert recipe.accum == 1 and group.world_size == 1 and not (method.online or method.recomputes)
    return GraphedPass(run, state.net, share_of_batch(recipe.train_batch_size, group))


def accumulate_gradients(
    state: TrainingState,
    loss_function: LossFunction,
    amp: str,
    inputs: Tensor,
    labels: Tensor,
    *,
    share: float = 1.0,
    exchange: bool = True,
) -> tuple[DistillationLoss, Tensor]:
    """Add the gradients of one batch to those of the network's parameters.

    share: weight of this batch's loss in the step; exchange: whether processes average the
    gradients at the end. Returns: the loss, detached, and the logits (N, B, K).
    """
    with gradient_exchange(state.forward, exchange):
        return differentiate(state, loss_function, amp, inputs, labels, share / state.net.T)


def accumulate_online(
    state: TrainingState,
    loss_function: LossFunction,
    amp: str,
    inputs: Tensor,
    labels: Tensor,
    *,
    share: float = 1.0,
    exchange: bool = True,
) -> tuple[DistillationLoss, Tensor]:
    """`accumulate_gradients` time step by time step, none of whose graphs outlives it.

    Loss and logits are the means over the T steps.
    """
    T, losses, logits = state.net.T, [], []
    for t, step in enumerate(state.net.method.own_pass.steps(state.net, inputs), 1):
        with gradient_exchange(state.forward, exchange and t == T):
            loss, heads = differentiate(state, loss_function, amp, step, labels, share / (T * T))
        losses.append(DistillationLoss(*(term / T for term in loss)))
        logits.append(heads)
    return sum_of(losses), sum(logits) / T


def differentiate(
    state: TrainingState,
    loss_function: LossFunction,
    amp: str,
    x: Tensor | Activation,
    labels: Tensor,
    weight: float,
) -> tuple[DistillationLoss, Tensor]:
    """Forward, loss and the backward of weight * loss; the loss and the logits, detached."""
    with autocast(labels.device, amp):
        heads = state.forward(x)
    heads = [at_least_fp32(z) for z in heads]
    loss = loss_function(heads, labels)
    (loss.total * weight).backward()
    return DistillationLoss(*(term.detach() for term in loss)), torch.stack(heads).detach()


def sum_of(losses: Sequence[DistillationLoss]) -> DistillationLoss:
    """Term by term."""
    return DistillationLoss(*(reduce(add, terms) for terms in zip(*losses, strict=True)))


def gradient_exchange(network: torch.nn.Module, wanted: bool) -> AbstractContextManager:
    """Whether backward passes in here end with the average of the gradients over processes."""
    split = isinstance(network, DistributedDataParallel) and not wanted
    return network.no_sync() if split else nullcontext()
