"""Reliability-decoupled self-distillation: the heads of a network teach each other.

Every head learns from the label (hard) and from a teacher that is made of the heads (soft):

    L = CE(z_N, y) + alp sum_{n<N} CE(z_n, y)
      + beta sum_n tau^2 KL(softmax(teacher / tau) || softmax(z_n / tau))

    teacher_b = mean of z_nb over { n : argmax z_nb = y_b };   KL: mean over the b that have one

CE may be with a smoothed label (not from the paper): (1 - q) onehot(y) + q / K in place of y.
A sample that no head gets right has no teacher and learns from its label alone. The last head is
the spiking network's own. It is a student like the others, and where it is right a teacher too.

Shapes: N heads, B batch, K classes; z_n logits of head n, y label.
Source: arXiv 2510.06254, section on reliability-decoupled distillation; smoothed labels,
arXiv 1512.00567, section 7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from model.functional import Average

Progress = float | Tensor  # a number, or a tensor without dimensions


def right_heads(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, B, K), (B,) -> (N, B) bool, whether a head's largest logit is the label's."""
    return logits.detach().argmax(-1) == labels


def weighted_mean(logits: Tensor, weight: Tensor) -> Tensor:
    """(B, K), mean of the logits (N, B, K) over the heads with weight (N, B); 0 where all are 0.

    Detached: a teacher is a target. A gradient would pull it towards its students, and the heads
    that are right towards those that are wrong.
    """
    total = torch.einsum("nb,nbk->bk", weight, logits.detach())
    sum_of_weights = weight.sum(0)  # (B,)
    return total / sum_of_weights.where(sum_of_weights > 0, 1).unsqueeze(-1)


def reliable_teacher(
    logits: Tensor, labels: Tensor, progress: Progress = 1
) -> tuple[Tensor, Tensor]:
    """Mean logits of the heads whose largest logit is the label's, sample by sample.

    Args: logits (N, B, K); labels (B,); progress: not looked at, see `Teacher`.
    Returns: logits (B, K), 0 where no head is right; (B,) bool, whether one is.
    """
    right = right_heads(logits, labels)
    return weighted_mean(logits, right.to(logits.dtype)), right.any(0)


class Teacher(NamedTuple):
    """Who teaches a sample, and how much the sample counts.

    text: what it is, for a person.
    teach: (logits (N, B, K), labels (B,), progress) -> (logits (B, K), weight (B,)), neither part
        of a graph. progress: share of the training that is done, 0 to 1. weight: between 0 and 1,
        or bool; 0 where there is nothing to teach.
    temperature: tau of the soft terms; None is what the loss is given.
    averaged: whether it looks at the heads of the network with averaged weights instead.
    """

    text: str
    teach: Callable[[Tensor, Tensor, Progress], tuple[Tensor, Tensor]]
    temperature: float | None = None
    averaged: bool = False


RELIABLE = Teacher("mean of the heads that are right", reliable_teacher)


def hard_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """(N, B, K), (B,) -> (N,), every head's cross-entropy, the mean of the samples'.

    smoothing: q, the share of a label that is spread over all classes.
    """
    options = {"reduction": "none", "label_smoothing": smoothing}
    each = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), **options)
    return each.view(len(logits), -1).mean(1)


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
    # Both as logarithms (log_target): no probability is rounded to 0 before its logarithm is taken.
    student = F.log_softmax(logits / temperature, dim=-1)
    target = F.log_softmax(teacher / temperature, dim=-1).expand_as(student)
    divergence = F.kl_div(student, target, reduction="none", log_target=True).sum(-1)  # (N, B)
    weight = weight.to(divergence.dtype)
    # Not the batch size: while few samples have a teacher, their terms would fade. And processes
    # differ in how many have one, so that only with a common total their terms average to the
    # batch's.
    total = weight.sum()
    if average is not None:
        total = average(total)
    weight = weight / total.where(total > 0, 1)  # early in training there may be no teacher at all
    # tau^2: the gradient of a softened KL shrinks as 1/tau^2 (arXiv 1503.02531, section 2), and
    # beta is to mean the same at every tau.
    return temperature**2 * (divergence * weight).sum(-1)


class DistillationLoss(NamedTuple):
    """total = hard + beta * soft, all scalars.

    hard: cross-entropies with their weights; soft: sum of the heads' KL terms; reliable: the
    fraction of samples that a head gets right, whoever the teacher is.
    """

    total: Tensor
    hard: Tensor
    soft: Tensor
    reliable: Tensor

    def detached(self) -> DistillationLoss:
        """The same numbers without their graph."""
        return DistillationLoss(*(term.detach() for term in self))


class SelfDistillationLoss:
    """The loss above, of which the caller differentiates L/T (T time steps, as published).

    Args:
        alp: weight of the branches' cross-entropies.
        beta: weight of the soft terms.
        temperature: tau of the soft terms, where the teacher has none of its own.
        teacher: the paper's, or another row of `model.TEACHERS`.
        label_smoothing: q of the cross-entropies.
        average: for several processes that share a batch evenly, the mean of a tensor over them:
            then the mean of their losses is the loss of the batch.
    Raises: ValueError for a number that is negative (temperature: or 0) or not finite, and for a
        label smoothing of 1 or more.
    """

    def __init__(
        self,
        alp: float,
        beta: float,
        temperature: float = 3.0,
        *,
        teacher: Teacher = RELIABLE,
        label_smoothing: float = 0.0,
        average: Average | None = None,
    ):
        for name, value in (("alp", alp), ("beta", beta)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number >= 0, got {value}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"label_smoothing must be a finite number >= 0 and < 1, got {label_smoothing}"
            )
        if not 0 < temperature < float("inf"):
            raise ValueError(f"temperature must be a finite number > 0, got {temperature}")
        self.alp, self.beta, self.average = alp, beta, average
        self.label_smoothing = label_smoothing
        self.teacher = teacher
        self.temperature = teacher.temperature or temperature

    def __call__(
        self,
        heads: Sequence[Tensor],
        labels: Tensor,
        progress: Progress = 1.0,
        averaged: Tensor | None = None,
    ) -> DistillationLoss:
        """heads: N logits (B, K), the spiking network's last; labels (B,); progress: see `Teacher`.

        averaged: logits (N, B, K) of the averaged network, for a teacher that looks at those.
        Heads may be fewer than a network has (N = 1 without branches): the sums follow them.
        """
        logits = torch.stack(list(heads))  # (N, B, K)
        each = hard_loss(logits, labels, self.label_smoothing)  # (N,)
        hard = self.alp * each[:-1].sum() + each[-1]
        assert not self.teacher.averaged or averaged is not None, "it looks at no other heads"
        seen = averaged if self.teacher.averaged else logits
        teacher, weight = self.teacher.teach(seen, labels, progress)  # (B, K), (B,)
        soft = soft_loss(logits, teacher, weight, self.temperature, self.average).sum()
        reliable = right_heads(logits, labels).any(0).to(logits.dtype).mean()
        return DistillationLoss(hard + self.beta * soft, hard, soft, reliable)
