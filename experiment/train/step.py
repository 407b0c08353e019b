"""One training step: to the device, forward, teacher and loss, backward, check, update.

`take_step` is the paper's. Beside it, with the same call, stands a step whose backward passes arise
in other ways (`accumulated`): by parts, by time steps, or from a recording (`graph`).

Shapes: T time steps, B batch, C channels, H x W pixels, K classes, N heads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiment.train.evaluation import at_least_fp32, autocast
from experiment.train.finite import refuse_non_finite
from experiment.train.state import TrainingState
from model.activation import Activation
from model.distillation import DistillationLoss
from util.process.distributed import Group

Part = tuple[Tensor, Tensor]  # images and labels (B,), as loaded
Step = Callable[[Sequence[Part], Tensor], None]  # of the parts of a batch, and the progress
Outcome = tuple[DistillationLoss, Tensor]  # the loss and the logits (N, B, K), outside the graph


@dataclass(frozen=True)
class StepContext:
    """What a step works with.

    state: what it changes: the network and its optimizer, and how far they have come.
    network: the module to call: the network, or its wrapper that averages gradients over processes.
    loss: of the heads' logits, the labels and the progress, as `SelfDistillationLoss`.
    to_input: images as loaded -> what the network takes.
    """

    state: TrainingState
    network: nn.Module
    loss: Callable[[Sequence[Tensor], Tensor, Tensor], DistillationLoss]
    to_input: Callable[[Tensor], Tensor]
    amp: str
    group: Group

    def on_device(self, part: Part) -> Part:
        """The network's input (B, C, H, W), or frames (T, B, C, H, W), and the labels (B,)."""
        images, labels = (x.to(self.group.device, non_blocking=True) for x in part)
        return self.to_input(images), labels


def take_step(context: StepContext, parts: Sequence[Part], progress: Tensor) -> None:
    """Move the weights once, by the gradient of L/T on a batch.

    parts: the batch, in one part. progress: a scalar, the share of the training that is done.
    Raises: NonFiniteError in all processes, before the weights are touched.
    """
    state, group = context.state, context.group
    (batch,) = parts
    x, labels = context.on_device(batch)  # (B, C, H, W) or (T, B, C, H, W), and (B,)
    state.optimizer.zero_grad(set_to_none=True)
    with autocast(group.device, context.amp):
        heads = context.network(x)  # N logits (B, K), the spiking network's own last
    heads = [at_least_fp32(logits) for logits in heads]
    loss = context.loss(heads, labels, progress)  # the heads that are right teach all
    (loss.total * (1 / state.net.T)).backward()  # L/T, rounded as in the other steps
    loss, logits = detached(loss, heads)  # scalars, and (N, B, K)
    del heads  # and with them the graph, before the optimizer takes memory
    state.note(loss, logits, labels)  # for the metrics of the epoch
    refuse_non_finite(loss, state.net, group, state.place)
    state.update()


def differentiate(
    context: StepContext, x: Tensor | Activation, labels: Tensor, progress: Tensor, weight: float
) -> Outcome:
    """The middle of `take_step`, for the other steps: forward, loss, backward of weight * loss."""
    with autocast(labels.device, context.amp):
        heads = context.network(x)
    heads = [at_least_fp32(logits) for logits in heads]
    loss = context.loss(heads, labels, progress)
    (loss.total * weight).backward()
    return detached(loss, heads)


def detached(loss: DistillationLoss, heads: list[Tensor]) -> Outcome:
    """Both without the graph that they end."""
    return DistillationLoss(*(term.detach() for term in loss)), torch.stack(heads).detach()
