"""Teachers beside the paper's: controls that say what its rule is worth, and two that extend it.

The paper's (`distillation`) is the mean of the heads that are right. Each of these changes one
thing about it:

soft              heads that are wrong teach too, a little
consensus         heads teach as far as they agree with each other, whatever the label
all               no selection of heads
final             no other heads than the spiking network's own
best              one head, no mean
label_smoothing   no head, so that the teacher knows nothing of the sample
ema               as all, of the network whose weights are an average over the steps so far

Arguments and results are those of `distillation.Teacher.teach`.
Shapes: N heads (the last is the spiking network's own), B batch, K classes; z_n logits of head n,
y label, p_n = softmax(z_n).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.distillation import Progress, Teacher, right_heads, weighted_mean

SMOOTHING = 0.1  # probability that label smoothing spreads evenly over the classes


def soft_teacher(logits: Tensor, labels: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """Heads that are wrong teach too, as far as they believe in the label. Not from the paper.

        w_nb = 1 if head n is right, else progress * p_nb(y_b)
        teacher_b = sum_n w_nb z_nb / sum_n w_nb;   weight_b = max_n w_nb

    The paper drops a sample that no head gets right, though its heads may know much about it. Here
    it counts, but less than any sample that a head gets right. At progress 0, when wrong heads
    know nothing yet, this is the reliable teacher.
    """
    belief = _at_label(logits.detach().softmax(-1), labels)  # (N, B)
    right = right_heads(logits, labels)
    weight = torch.where(right, torch.ones_like(belief), progress * belief)
    return weighted_mean(logits, weight), weight.amax(0)


def consensus_teacher(logits: Tensor, labels: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """Heads teach as far as they agree with each other; the label is unused. Not from the paper.

        a_nm = sum_k p_nk p_mk;   w_n = mean_{m != n} a_nm, 1 for a single head
        teacher = sum_n w_n z_n / sum_n w_n;   weight = mean_n w_n

    a_nm is the probability that two heads, each answering by its own distribution, give the same
    answer: near 1 for confident heads that agree, 1/K where one knows nothing. The paper keeps the
    heads that agree with the label. Where labels are wrong that keeps the heads that learned the
    error, and drops exactly those that know better.
    """
    p = logits.detach().softmax(-1)  # (N, B, K)
    heads = len(p)
    if heads == 1:
        return _for_all(logits[0].detach())
    others = (1 - torch.eye(heads, dtype=p.dtype, device=p.device)) / (heads - 1)
    weight = torch.einsum("nbk,mbk,nm->nb", p, p, others)
    return weighted_mean(logits, weight), weight.mean(0)


def mean_teacher(logits: Tensor, labels: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """Mean logits of all heads, right or wrong."""
    return _for_all(logits.detach().mean(0))


def final_teacher(logits: Tensor, labels: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """The spiking network's own logits, as in plain self-distillation (arXiv 1905.08094)."""
    return _for_all(logits[-1].detach())


def best_teacher(logits: Tensor, labels: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """The logits of the head with the lowest cross-entropy, sample by sample."""
    best = _at_label(logits.detach().log_softmax(-1), labels).argmax(0)  # (B,)
    chosen = best[None, :, None].expand(1, *logits.shape[1:])  # (1, B, K), as gather wants it
    return _for_all(logits.detach().gather(0, chosen)[0])


def smoothed_label(logits: Tensor, labels: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
    """The label itself, smoothed: a teacher that knows nothing of the sample.

    It takes the place of the heads in the soft terms, with weight beta; the `label_smoothing` of
    `SelfDistillationLoss` changes the cross-entropies, whoever the teacher is.

    softmax(teacher) = (1 - SMOOTHING) onehot(y) + SMOOTHING / K  (arXiv 1512.00567).
    """
    classes = logits.shape[-1]
    onehot = F.one_hot(labels, classes).to(logits.dtype)
    return _for_all(((1 - SMOOTHING) * onehot + SMOOTHING / classes).log())


def _at_label(values: Tensor, labels: Tensor) -> Tensor:
    """(N, B, K) -> (N, B), the value of each sample's label."""
    return values.gather(-1, labels.expand(len(values), -1)[..., None]).squeeze(-1)


def _for_all(teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Every sample counts as one."""
    return teacher, teacher.new_ones(len(teacher))


SOFT = Teacher("wrong heads teach as far as they believe in the label", soft_teacher)
CONSENSUS = Teacher(
    "heads weighted by their agreement with each other, the label unused", consensus_teacher
)
ALL = Teacher("mean of all heads", mean_teacher)
FINAL = Teacher("the spiking network's own head", final_teacher)
BEST = Teacher("the head with the lowest loss", best_teacher)
# Mean Teacher, arXiv 1703.01780, here of all heads. Not from the paper.
EMA = Teacher("mean of all heads of the averaged network (--ema)", mean_teacher, averaged=True)
# At tau = 1 the soft terms of a smoothed label are the cross-entropy with it, up to a constant.
LABEL_SMOOTHING = Teacher("the smoothed label, no head", smoothed_label, temperature=1.0)
