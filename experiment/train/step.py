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
from experiment.train.update import Update
from model.activation import Activation
from model.distillation import DistillationLoss
from util.process.distributed import Group

Part = tuple[Tensor, Tensor]  # images and labels (B,), as loaded
Step = Callable[[Sequence[Part], Tensor], None]  # of the parts of a batch, and the progress
Outcome = tuple[DistillationLoss, Tensor]  # the loss and the logits (N, B, K), outside the graph
Move = Callable[[Tensor, Tensor, Tensor], Outcome]  # of input, labels and progress, on the device


@dataclass(frozen=True)
class StepContext:
    """What a step works with.

    state: what it changes: the network and its optimizer, and how far they have come.
    network: the module to call: the network, or its wrapper that averages gradients over processes.
    loss: of the heads' logits, the labels and the progress, as `SelfDistillationLoss`.
    update: how it ends.
    to_input: images as loaded -> what the network takes.
    """

    state: TrainingState
    network: nn.Module
    loss: Callable[[Sequence[Tensor], Tensor, Tensor], DistillationLoss]
    update: Update
    to_input: Callable[[Tensor], Tensor]
    amp: str
    group: Group

    def on_device(self, part: Part) -> Part:
        """The network's input (B, C, H, W), or frames (T, B, C, H, W), and the labels (B,)."""
        images, labels = (x.to(self.group.device, non_blocking=True) for x in part)
        return self.to_input(images), labels

    def count_step(self) -> None:
        """A step has been taken. Raises: NonFiniteError, as `Update.look_back`."""
        state = self.state
        place, number = state.place, state.batch
        state.batch += 1
        self.update.look_back(place, number)


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
    loss, logits = move(x, labels, progress)  # scalars, and (N, B, K)
    context.state.note(loss, logits, labels)  # for the metrics of the epoch
    context.count_step()


def move_weights(context: StepContext, x: Tensor, labels: Tensor, progress: Tensor) -> Outcome:
    """A step on the device, which the host neither waits for nor copies anything from."""
    context.state.optimizer.zero_grad(set_to_none=True)
    loss, logits = differentiate(context, x, labels, progress, 1 / context.state.net.T)  # L/T
    context.update(loss)  # if loss and gradients are finite
    return loss, logits


def differentiate(
    context: StepContext, x: Tensor | Activation, labels: Tensor, progress: Tensor, weight: float
) -> Outcome:
    """Forward, teacher and loss, and the backward of weight * loss, which adds to the gradients."""
    with autocast(labels.device, context.amp):
        heads = context.network(x)  # N logits (B, K), the spiking network's own last
    heads = [at_least_fp32(logits) for logits in heads]
    loss = context.loss(heads, labels, progress)  # the heads that are right teach all
    (loss.total * weight).backward()
    # Without the graph, which goes before the optimizer takes memory.
    return loss.detached(), torch.stack(heads).detach()
