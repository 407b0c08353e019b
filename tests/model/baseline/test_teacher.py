"""Every teacher, the paper's among them, against its definition, written with loops."""

import pytest
import torch

from model import TEACHERS
from model.baseline.teacher import SMOOTHING, soft_teacher
from model.distillation import SelfDistillationLoss, reliable_teacher, right_heads

N, B, K = 3, 9, 5


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(N, B, K, generator=generator, dtype=torch.float64)
    labels = torch.randint(K, (B,), generator=generator)
    logits[:, 0, labels[0]] = -2.0  # no head is right on the first sample
    logits[:, 1, labels[1]] = 9.0  # all are right on the second
    return logits, labels


def by_loops(name: str, z, y: int, progress: float):
    """(teacher (K,), weight) of one sample; z (N, K)."""
    p = [head.exp() / head.exp().sum() for head in z]
    right = [n for n in range(N) if int(z[n].argmax()) == y]
    if name == "reliable":
        weights = [float(n in right) for n in range(N)]
    elif name == "soft":
        weights = [1.0 if n in right else progress * float(p[n][y]) for n in range(N)]
    elif name == "all":
        weights = [1.0] * N
    elif name == "final":
        weights = [0.0] * (N - 1) + [1.0]
    elif name == "best":
        best = max(range(N), key=lambda n: float(p[n][y]))
        weights = [float(n == best) for n in range(N)]
    else:
        smooth = torch.full((K,), SMOOTHING / K, dtype=z.dtype)
        smooth[y] += 1 - SMOOTHING
        return smooth.log(), 1.0
    if not any(weights):
        return torch.zeros(K, dtype=z.dtype), 0.0
    return sum(w * head for w, head in zip(weights, z, strict=True)) / sum(weights), max(weights)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", TEACHERS)
def test_equals_its_definition(batch, name: str, progress: float) -> None:
    logits, labels = batch
    teacher, weight = TEACHERS[name].teach(logits.requires_grad_(), labels, progress)
    assert not teacher.requires_grad and not weight.requires_grad
    for b in range(B):
        wanted, wanted_weight = by_loops(name, logits[:, b].detach(), int(labels[b]), progress)
        torch.testing.assert_close(teacher[b], wanted, rtol=1e-12, atol=1e-12)
        assert float(weight[b]) == pytest.approx(wanted_weight, rel=1e-12)


def test_a_soft_teacher_begins_as_the_reliable_one_and_then_takes_in_every_sample(batch) -> None:
    logits, labels = batch
    for soft, reliable in zip(
        soft_teacher(logits, labels, 0.0), reliable_teacher(logits, labels), strict=True
    ):
        assert torch.equal(soft, reliable)
    right = right_heads(logits, labels).any(0)
    assert right.any() and not right.all()
    _, weight = soft_teacher(logits, labels, 1.0)
    assert (weight[right] == 1).all()
    assert ((weight[~right] > 0) & (weight[~right] < 1)).all()


def test_label_smoothing_is_the_cross_entropy_of_smoothed_labels(batch) -> None:
    logits, labels = batch
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = SelfDistillationLoss(1.0, 0.3, teacher=TEACHERS["label_smoothing"])
    loss(list(ours), labels).total.backward()
    for head in theirs:
        hard = torch.nn.functional.cross_entropy(head, labels)
        smooth = torch.nn.functional.cross_entropy(head, labels, label_smoothing=SMOOTHING)
        (hard + 0.3 * smooth).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("name", TEACHERS)
def test_the_loss_takes_the_weighted_mean_of_the_samples(batch, name: str) -> None:
    logits, labels = batch
    loss = SelfDistillationLoss(1.0, 0.3, 3.0, teacher=TEACHERS[name])(list(logits), labels, 0.5)
    tau = TEACHERS[name].temperature or 3.0
    total = norm = 0.0
    for b in range(B):
        teacher, weight = by_loops(name, logits[:, b], int(labels[b]), 0.5)
        target = (teacher / tau).softmax(-1)
        for head in logits[:, b]:
            total += weight * (target * (target.log() - (head / tau).log_softmax(-1))).sum()
        norm += weight
    torch.testing.assert_close(loss.soft, tau**2 * total / norm)
    assert float(loss.reliable) == pytest.approx(
        float(right_heads(logits, labels).any(0).mean(dtype=float))
    )
