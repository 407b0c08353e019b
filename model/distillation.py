"""Reliability-decoupled self-distillation: what each sample's heads learn from their teacher.

Shapes: N heads (the last is the spiking network's own), B batch, K classes.
Source: arXiv 2510.06254, section on reliability-decoupled distillation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.functional import Average
from model.teacher import TEACHERS, any_head_right, reliable_teacher

__all__ = ["DistillationLoss", "SelfDistillationLoss", "reliable_teacher", "soft_loss"]


def soft_loss(
    logits: Tensor,
    teacher: Tensor,
    weight: Tensor,
    temperature: float,
    average: Average | None = None,
) -> Tensor:
    """tau^2 KL(softmax(teacher/tau) || softmax(z/tau)), the weighted mean of the samples' terms.

    Args: logits (N, B, K); teacher (B, K); weight (B,); average: the mean of a tensor over the
    processes that share a batch, whose mean result is then the batch's.
    Returns: (N,), one term per head; 0 if every weight is 0.
    """
    student = F.log_softmax(logits / temperature, dim=-1)
    target = F.log_softmax(teacher / temperature, dim=-1).expand_as(student)
    divergence = F.kl_div(student, target, reduction="none", log_target=True).sum(-1)  # (N, B)
    weight = weight.to(divergence.dtype)
    total = weight.sum()
    if average is not None:
        total = average(total)  # so that the processes' terms average to the batch's
    weight = weight / total.where(total > 0, 1)
    return temperature**2 * (divergence * weight).sum(-1)


class DistillationLoss(NamedTuple):
    """total = hard + beta * soft, all scalars.

    hard: cross-entropies with their weights; soft: sum of the heads' KL terms; reliable: the
    fraction of samples that a head gets right.
    """

    total: Tensor
    hard: Tensor
    soft: Tensor
    reliable: Tensor


class SelfDistillationLoss:
    """L = CE(z_N, y) + alp sum_{n<N} CE(z_n, y) + beta sum_n tau^2 KL(teacher || z_n).

    Args:
        alp: weight of the branches' cross-entropies.
        beta: weight of the soft terms.
        temperature: tau of the soft terms, where the teacher has none of its own.
        teacher: a key of `teacher.TEACHERS`.
        average: for several processes that share a batch evenly, the mean of a tensor over them:
            then the mean of their losses is the loss of the batch.
    The caller divides by the number of time steps T (published convention).
    """

    def __init__(
        self,
        alp: float,
        beta: float,
        temperature: float = 3.0,
        *,
        teacher: str = "reliable",
        average: Average | None = None,
    ):
        if teacher not in TEACHERS:
            raise ValueError(f"unknown teacher {teacher!r}: choose one of {', '.join(TEACHERS)}")
        for name, value in (("alp", alp), ("beta", beta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a finite number > 0, got {temperature}")
        self.alp, self.beta, self.average = alp, beta, average
        self.teach = TEACHERS[teacher].teach
        self.temperature = TEACHERS[teacher].temperature or temperature

    def __call__(
        self, heads: Sequence[Tensor], labels: Tensor, progress: float | Tensor = 1.0
    ) -> DistillationLoss:
        """heads: N logits (B, K), the spiking network's last; labels (B,).

        progress: share of the training that is done, 0 to 1, which the soft teacher follows.
        """
        logits = torch.stack(list(heads))
        N, B, K = logits.shape
        each = F.cross_entropy(
            logits.reshape(N * B, K), labels.repeat(N), reduction="none"
        ).view(N, B).mean(1)  # fmt: skip
        hard = self.alp * each[:-1].sum() + each[-1]
        teacher, weight = self.teach(logits, labels, progress)
        soft = soft_loss(logits, teacher, weight, self.temperature, self.average).sum()
        fraction = any_head_right(logits, labels).to(logits.dtype).mean()
        return DistillationLoss(hard + self.beta * soft, hard, soft, fraction)
