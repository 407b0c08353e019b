"""A training step in several passes, whose gradients add up to one update.

With --accum a process takes its images of a step part by part, which saves memory; online training
has a backward pass of its own for each time step, and no graph outlives it. The two compose.

Shapes: T time steps, B batch, K classes, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from operator import add

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from experiment.train.step import Outcome, Part, StepContext, differentiate
from model.distillation import DistillationLoss

# (context, part on the device, progress, share=, exchange=): adds the gradients of a part to those
# of the parameters. share: of the step's images that are in the part; exchange: whether processes
# average their gradients at the end.
Backward = Callable[..., Outcome]


@dataclass(frozen=True)
class AccumulatedStep:
    """`step.take_step` for a batch of one part or several; all processes average once.

    backward: how the gradients of a part arise.
    """

    context: StepContext
    backward: Backward

    def __call__(self, parts: Sequence[Part], progress: Tensor) -> None:
        context, state = self.context, self.context.state
        state.optimizer.zero_grad(set_to_none=True)
        images = sum(len(labels) for _, labels in parts)
        losses = []
        for number, part in enumerate(parts, 1):
            _, labels = part = context.on_device(part)
            share, last = len(labels) / images, number == len(parts)
            loss, logits = self.backward(context, part, progress, share=share, exchange=last)
            state.note(loss, logits, labels)
            losses.append(loss)
        context.update(sum_of(losses))
        context.count_step()


def whole_pass(
    context: StepContext, part: Part, progress: Tensor, *, share: float, exchange: bool
) -> Outcome:
    """A `Backward` through all time steps at once."""
    with gradient_exchange(context.network, exchange):
        return differentiate(context, *part, progress, weight=share / context.T, T=context.T)


def online_pass(
    context: StepContext, part: Part, progress: Tensor, *, share: float, exchange: bool
) -> Outcome:
    """A `Backward` time step by time step; loss and logits are the means over the T of them."""
    x, labels = part
    net = context.state.net
    T, losses, logits = context.T, [], []
    for t, step in enumerate(net.method.own_pass.steps(net, x, T), 1):
        with gradient_exchange(context.network, exchange and t == T):
            weight = share / (T * T)  # L/T of the loss's mean over time
            loss, heads = differentiate(context, step, labels, progress, weight=weight)
        losses.append(DistillationLoss(*(term / T for term in loss)))
        logits.append(heads)
    return sum_of(losses), sum(logits) / T


def gradient_exchange(network: nn.Module, wanted: bool) -> AbstractContextManager:
    """Whether backward passes in here end with the average of the gradients over processes."""
    split = isinstance(network, DistributedDataParallel) and not wanted
    return network.no_sync() if split else nullcontext()


def sum_of(losses: Sequence[DistillationLoss]) -> DistillationLoss:
    """Term by term."""
    return DistillationLoss(*(reduce(add, terms) for terms in zip(*losses, strict=True)))
