"""Reliability-decoupled self-distillation: what each sample's heads teach each other.

Shapes: N heads (the last is the spiking network's own), B batch, K classes.
Source: arXiv 2510.06254, section on reliability-decoupled distillation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def reliable_teacher(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean logits of the heads whose largest logit is the label's, sample by sample.

        teacher_b = mean of z_nb over { n : argmax z_nb = y_b }

    Args: logits (N, B, K); labels (B,).
    Returns: teacher (B, K), detached, zero where no head is right; reliable (B,) bool, whether any
    head is right.
    """
    logits = logits.detach()
    correct = logits.argmax(-1) == labels  # (N, B)
    count = correct.sum(0)  # (B,)
    total = torch.einsum("nb,nbk->bk", correct.to(logits.dtype), logits)
    return total / count.clamp(min=1).unsqueeze(-1), count > 0


def soft_loss(
    logits: Tensor,
    teacher: Tensor,
    reliable: Tensor,
    temperature: float,
    average: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """tau^2 KL(softmax(teacher/tau) || softmax(z/tau)), averaged over reliable samples; 0 if none.

    Args: logits (N, B, K); teacher (B, K); reliable (B,) bool; average: the mean of a tensor over
    the processes that share a batch, whose mean result is then the batch's.
    Returns: (N,), one term per head.
    """
    student = F.log_softmax(logits / temperature, dim=-1)
    target = F.log_softmax(teacher / temperature, dim=-1).expand_as(student)
    divergence = F.kl_div(student, target, reduction="none", log_target=True).sum(-1)  # (N, B)
    count = reliable.sum().to(divergence.dtype)
    if average is not None:
        count = average(count)  # not a whole number, so that the processes' terms average to ours
    weight = reliable.to(divergence.dtype) / count.where(count > 0, 1)
    return temperature**2 * (divergence * weight).sum(-1)


class DistillationLoss(NamedTuple):
    """total = hard + beta * soft, all scalars.

    hard: cross-entropies with their weights; soft: sum of the heads' KL terms; reliable: the
    fraction of samples that have a teacher.
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
        temperature: tau of the soft terms.
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
        average: Callable[[Tensor], Tensor] | None = None,
    ):
        for name, value in (("alp", alp), ("beta", beta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a finite number > 0, got {temperature}")
        self.alp, self.beta, self.temperature, self.average = alp, beta, temperature, average

    def __call__(self, heads: Sequence[Tensor], labels: Tensor) -> DistillationLoss:
        """heads: N logits (B, K), the spiking network's last; labels (B,)."""
        logits = torch.stack(list(heads))
        N, B, K = logits.shape
        each = F.cross_entropy(
            logits.reshape(N * B, K), labels.repeat(N), reduction="none"
        ).view(N, B).mean(1)  # fmt: skip
        hard = self.alp * each[:-1].sum() + each[-1]
        teacher, reliable = reliable_teacher(logits, labels)
        soft = soft_loss(logits, teacher, reliable, self.temperature, self.average).sum()
        fraction = reliable.to(logits.dtype).mean()
        return DistillationLoss(hard + self.beta * soft, hard, soft, fraction)
