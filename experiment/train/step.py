"""One training step: to the device, forward, teacher and loss, backward, check, update.

`take_step` is the paper's; what it does on the device, `move_weights`, may be a recording
(`graph`). Beside it, with the same call, stands a step in several passes (`accumulated`).

Shapes: T time steps, B batch, C channels, H x W pixels, K classes, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from experiment.train.evaluation import at_least_fp32, autocast
from experiment.train.state import TrainingState
from experiment.train.time_steps import TimeSteps
from experiment.train.update import Update
from model import RateModel
from model.activation import Activation
from model.distillation import DistillationLoss
from util.process.distributed import Group

Part = tuple[Tensor, Tensor]  # images and labels (B,), as loaded
Step = Callable[[Sequence[Part], Tensor], None]  # of the parts of a batch, and the progress
Outcome = tuple[DistillationLoss, Tensor]  # the loss and the logits (N, B, K), outside the graph
Move = Callable[..., Outcome]  # of input, labels, progress (on the device), T=: `move_weights`


@dataclass(frozen=True)
class StepContext:
    """What a step works with.

    state: what it changes: the network and its optimizer, and how far they have come.
    network: the module to call: the network, or its wrapper that averages gradients over processes.
    loss: of the heads' logits, the labels, the progress and the averaged network's logits, as
        `SelfDistillationLoss`.
    update: how it ends.
    to_input: images as loaded -> what the network takes.
    amp, group: precision and processes, as of `Recipe` and `Training`.
    time_steps: how many each step has.
    averaged: the network with averaged weights, where the loss's teacher looks at its heads.
    """

    state: TrainingState
    network: nn.Module
    loss: Callable[[Sequence[Tensor], Tensor, Tensor, Tensor | None], DistillationLoss]
    update: Update
    to_input: Callable[[Tensor], Tensor]
    amp: str
    group: Group
    time_steps: TimeSteps
    averaged: RateModel | None = None

    @property
    def T(self) -> int:
        """Time steps of the step to come, the same in all processes."""
        return self.time_steps.of(self.state.epoch, self.state.batch)

    def on_device(self, part: Part) -> Part:
        """The network's input (B, C, H, W), or its first T frames (T, B, C, H, W); labels (B,)."""
        images, labels = (x.to(self.group.device, non_blocking=True) for x in part)
        return self.time_steps.cut(self.to_input(images), self.T), labels

    def count_step(self) -> None:
        """A step has been taken, and counts in the average of the weights.

        Raises: NonFiniteError, as `Update.look_back`.
        """
        state = self.state
        place, number = state.place, state.batch
        state.batch += 1
        self.update.look_back(place, number)
        if state.average is not None:
            state.average.update()


def take_step(
    context: StepContext, parts: Sequence[Part], progress: Tensor, *, move: Move | None = None
) -> None:
    """Move the weights once, by the gradient of L/T on a batch.

    parts: the batch, in one part. progress: a scalar, the share of the training that is done.
    move: what is done on the device; None: `move_weights`.
    Raises: NonFiniteError in all processes; the step that it names has moved no weights.
    """
    (batch,) = parts
    x, labels = context.on_device(batch)  # (B, C, H, W) or (T, B, C, H, W), and (B,)
    move = move or partial(move_weights, context)
    loss, logits = move(x, labels, progress, T=context.T)  # scalars, and (N, B, K)
    context.state.note(loss, logits, labels)  # for the metrics of the epoch
    context.count_step()


def move_weights(
    context: StepContext, x: Tensor, labels: Tensor, progress: Tensor, *, T: int
) -> Outcome:
    """A step on the device, which the host neither waits for nor copies anything from."""
    context.state.optimizer.zero_grad(set_to_none=True)
    loss, logits = differentiate(context, x, labels, progress, weight=1 / T, T=T)  # L/T
    context.update(loss)  # if loss and gradients are finite
    return loss, logits


def differentiate(
    context: StepContext,
    x: Tensor | Activation,
    labels: Tensor,
    progress: Tensor,
    *,
    weight: float,
    T: int | None = None,
) -> Outcome:
    """Forward, teacher and loss, and the backward of weight * loss, which adds to the gradients.

    T: time steps of a whole batch x; None for an activation, which has its own.
    """
    averaged = averaged_logits(context, x, T)
    with autocast(labels.device, context.amp):
        heads = context.network(x, T=T)  # N logits (B, K), the spiking network's own last
    heads = [at_least_fp32(logits) for logits in heads]
    loss = context.loss(heads, labels, progress, averaged)  # the heads that are right teach all
    (loss.total * weight).backward()
    # Without the graph, which goes before the optimizer takes memory.
    return loss.detached(), torch.stack(heads).detach()


@torch.no_grad()
def averaged_logits(context: StepContext, x: Tensor, T: int | None) -> Tensor | None:
    """What the averaged network's heads say of a batch, (N, B, K); None if nobody asks."""
    net = context.averaged
    if net is None:
        return None
    context.group.copy_buffers(net)  # as `evaluate`, so that all processes have one teacher
    with autocast(x.device, context.amp):
        heads = net.head_logits(x, T=T)
    return torch.stack([at_least_fp32(logits) for logits in heads])
