"""The published self-distillation loss, literally, including its 1e-8 and its NaN.

Independent of `model/`. Shapes: N heads (the last is the SNN's own), B batch, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURE = 3.0
EPSILON = 1e-8


@dataclass(frozen=True)
class PublishedLoss:
    """`hard_per_head`, `soft_per_head` (N,); `hard` weighted as the formula does; `total`."""

    hard_per_head: Tensor
    soft_per_head: Tensor
    hard: Tensor
    soft: Tensor
    total: Tensor


def published_teacher(logits: Tensor, labels: Tensor, epsilon: float = EPSILON) -> Tensor:
    """(N, B, K), (B,) -> (B, K): sum of the correct heads' logits over their count + epsilon."""
    correct = (logits.argmax(2) == labels).to(logits.dtype)
    return (logits * correct.unsqueeze(2)).sum(0) / (correct.sum(0).unsqueeze(1) + epsilon)


def published_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    formula: str,
    alp: float,
    beta: float,
    epsilon: float = EPSILON,
) -> PublishedLoss:
    """Total loss of the published `cifar`, `dvs` or `imagenet` script, undivided by T.

    `soft` is NaN when no head is right on any sample, as in the published code. With `epsilon` 0
    the teacher is the plain mean.
    """
    teacher = published_teacher(logits, labels, epsilon).detach()
    valid = teacher.abs().sum(1) > 1e-6
    target = F.softmax(teacher[valid] / TEMPERATURE, dim=1)
    cross_entropy = torch.stack([F.cross_entropy(head, labels) for head in logits])
    divergence = torch.stack(
        [
            TEMPERATURE**2
            * F.kl_div(F.log_softmax(head[valid] / TEMPERATURE, 1), target, reduction="none")
            .sum(1)
            .mean()
            for head in logits
        ]
    )
    soft = divergence.sum()
    if formula == "imagenet":
        hard = cross_entropy[:-1].sum()
        total = alp * hard + beta * soft + cross_entropy[-1]
    else:
        hard = cross_entropy.sum()
        total = (alp if formula == "cifar" else 1.0) * hard + beta * soft
    return PublishedLoss(cross_entropy, divergence, hard, soft, total)
