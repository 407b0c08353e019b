"""Teachers of the self-distillation: which heads teach a sample, and with what weight.

A teacher gives every sample logits (B, K), which all heads follow, and a weight (B,) between 0
and 1, 0 where it has nothing to teach. `reliable` is the paper's (arXiv 2510.06254, section on
reliability-decoupled distillation); the others answer what its rule is worth.

Shapes: N heads (the last is the spiking network's own), B batch, K classes; z_n logits of head n,
y label, p_n = softmax(z_n). Nothing here is part of a graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Progress = float | Tensor  # a number, or a tensor without dimensions
SMOOTHING = 0.1  # probability that label smoothing spreads evenly over the classes


def reliable_teacher(
    logits: Tensor, labels: Tensor, progress: Progress = 1
) -> tuple[Tensor, Tensor]:
    """Mean logits of the heads whose largest logit is the label's, sample by sample.

        teacher_b = mean of z_nb over { n : argmax z_nb = y_b };   reliable_b = there is one

    Args, for every teacher: logits (N, B, K); labels (B,); progress: share of the training that is
    done, 0 to 1.
    Returns, from every teacher: logits (B, K), zero where the weight is; weight (B,), from this
    one whether the sample is reliable, bool.
    """
    right = _is_right(logits, labels)
    return _weighted_mean(logits, right.to(logits.dtype))[0], right.any(0)


def soft_teacher(logits: Tensor, labels: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """Heads that are wrong teach too, as far as they believe in the label. Not from the paper.

        w_nb = 1 if head n is right, else progress * p_nb(y_b)
        teacher_b = sum_n w_nb z_nb / sum_n w_nb;   weight_b = max_n w_nb

    The paper drops a sample that no head gets right, though its heads may know much about it. Here
    it counts, but less than any sample that a head gets right. At progress 0, when wrong heads
    know nothing yet, this is the reliable teacher.
    """
    belief = _at_label(logits.detach().softmax(-1), labels)
    right = _is_right(logits, labels)
    weight = torch.where(right, torch.ones_like(belief), progress * belief)
    return _weighted_mean(logits, weight)


def mean_teacher(logits: Tensor, labels: Tensor, progress: Progress = 1) -> tuple[Tensor, Tensor]:
    """Mean logits of all heads, right or wrong."""
    return _for_all(logits.detach().mean(0))


def final_teacher(logits: Tensor, labels: Tensor, progress: Progress = 1) -> tuple[Tensor, Tensor]:
    """The spiking network's own logits, as in plain self-distillation (arXiv 1905.08094)."""
    return _for_all(logits[-1].detach())


def best_teacher(logits: Tensor, labels: Tensor, progress: Progress = 1) -> tuple[Tensor, Tensor]:
    """The logits of the head with the lowest cross-entropy, sample by sample."""
    best = _at_label(logits.detach().log_softmax(-1), labels).argmax(0)  # (B,)
    chosen = best[None, :, None].expand(1, *logits.shape[1:])
    return _for_all(logits.detach().gather(0, chosen)[0])


def smoothed_label(logits: Tensor, labels: Tensor, progress: Progress = 1) -> tuple[Tensor, Tensor]:
    """The label itself, smoothed: a teacher that knows nothing of the sample, as a control.

    softmax(teacher) = (1 - SMOOTHING) onehot(y) + SMOOTHING / K  (arXiv 1512.00567).
    """
    classes = logits.shape[-1]
    onehot = F.one_hot(labels, classes).to(logits.dtype)
    return _for_all(((1 - SMOOTHING) * onehot + SMOOTHING / classes).log())


def _at_label(values: Tensor, labels: Tensor) -> Tensor:
    """(N, B, K) -> (N, B), the value of each sample's label."""
    return values.gather(-1, labels.expand(len(values), -1)[..., None]).squeeze(-1)


def any_head_right(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) bool, whether a sample has a reliable teacher."""
    return _is_right(logits, labels).any(0)


def _is_right(logits: Tensor, labels: Tensor) -> Tensor:
    """(N, B) bool."""
    return logits.detach().argmax(-1) == labels


def _weighted_mean(logits: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the heads with weight (N, B), zero where all are; and the largest weight (B,)."""
    total = torch.einsum("nb,nbk->bk", weight, logits.detach())
    sum_of_weights = weight.sum(0)
    mean = total / sum_of_weights.where(sum_of_weights > 0, 1).unsqueeze(-1)
    return mean, weight.amax(0)


def _for_all(teacher: Tensor) -> tuple[Tensor, Tensor]:
    return teacher, teacher.new_ones(len(teacher))


class Teacher(NamedTuple):
    """A row of TEACHERS.

    text: what it is, for a person.
    teach: (logits (N, B, K), labels (B,), progress) -> (logits (B, K), weight (B,)).
    temperature: of the soft terms if it is not the recipe's.
    """

    text: str
    teach: Callable[[Tensor, Tensor, Progress], tuple[Tensor, Tensor]]
    temperature: float | None = None


TEACHERS = {
    "reliable": Teacher("mean of the heads that are right", reliable_teacher),
    "soft": Teacher("wrong heads teach as far as they believe in the label", soft_teacher),
    "all": Teacher("mean of all heads", mean_teacher),
    "final": Teacher("the spiking network's own head", final_teacher),
    "best": Teacher("the head with the lowest loss", best_teacher),
    "label_smoothing": Teacher("the smoothed label, no head", smoothed_label, temperature=1.0),
}
