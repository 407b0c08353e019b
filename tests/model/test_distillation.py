"""Every teacher and the loss against the definitions, written with loops."""

import pytest
import torch
import torch.nn.functional as F

from model import TEACHERS
from model.baseline.teacher import SMOOTHING, consensus_teacher, soft_teacher
from model.distillation import SelfDistillationLoss, reliable_teacher, right_heads

N, B, K = 3, 9, 5


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(N, B, K, generator=generator, dtype=torch.float64)
    labels = torch.randint(K, (B,), generator=generator)
    logits[:, 0, labels[0]] = -9.0  # no head is right on the first sample
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
    elif name == "consensus":
        agreement = [[float((p[n] * p[m]).sum()) for m in range(N) if m != n] for n in range(N)]
        weights = [sum(row) / len(row) for row in agreement]
        mean = sum(w * head for w, head in zip(weights, z, strict=True)) / sum(weights)
        return mean, sum(weights) / N
    elif name in ("all", "ema"):
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
def test_a_teacher_equals_its_definition(batch, name: str, progress: float) -> None:
    logits, labels = batch
    teacher, weight = TEACHERS[name].teach(logits.requires_grad_(), labels, progress)
    assert not teacher.requires_grad and not weight.requires_grad
    assert (weight.dtype == torch.bool) is (name == "reliable")
    for b in range(B):
        wanted, wanted_weight = by_loops(name, logits[:, b].detach(), int(labels[b]), progress)
        torch.testing.assert_close(teacher[b], wanted, rtol=1e-12, atol=1e-12)
        assert float(weight[b]) == pytest.approx(wanted_weight, rel=1e-12)


@pytest.mark.parametrize(
    ("alp", "beta", "temperature", "smoothing"),
    [(1.0, 0.3, 3.0, 0.0), (0.5, 0.7, 1.5, 0.0), (0, 0, 3, 0.3), (0.5, 0.7, 3.0, 0.1)],
)
@pytest.mark.parametrize("name", TEACHERS)
def test_the_loss_and_its_gradient_equal_the_definition(
    batch, name, alp, beta, temperature, smoothing
):
    logits, labels = batch
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    teacher = TEACHERS[name]
    loss = SelfDistillationLoss(alp, beta, temperature, teacher=teacher, label_smoothing=smoothing)
    loss = loss(list(ours), labels, 0.5, ours.detach())  # "ema" looks at these, here the same

    tau, total, norm = teacher.temperature or temperature, 0.0, 0.0
    for b in range(B):
        target, weight = by_loops(name, theirs[:, b].detach(), int(labels[b]), 0.5)
        target = (target / tau).softmax(-1)
        for head in theirs[:, b]:
            total += weight * (target * (target.log() - (head / tau).log_softmax(-1))).sum()
        norm += weight
    weights = [alp] * (N - 1) + [1]
    wanted = (1 - smoothing) * F.one_hot(labels, K) + smoothing / K  # (B, K)
    each = [-(wanted * z.log_softmax(-1)).sum(-1).mean() for z in theirs]
    hard = sum(w * loss_of_head for w, loss_of_head in zip(weights, each, strict=True))
    soft = tau**2 * total / norm
    torch.testing.assert_close(loss.hard, hard)
    torch.testing.assert_close(loss.soft, soft)
    torch.testing.assert_close(loss.total, hard + beta * soft)
    assert loss.reliable == right_heads(logits, labels).any(0).double().mean()
    loss.total.backward()
    (hard + beta * soft).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_teacher_may_look_at_the_averaged_network(batch) -> None:
    """Which changes whom the heads follow, not which samples a head gets right."""
    (logits, labels), tau = batch, 3.0
    averaged = logits.flip(0).roll(1, 1)
    loss = SelfDistillationLoss(1.0, 0.3, tau, teacher=TEACHERS["ema"])
    found = loss(list(logits), labels, 0.5, averaged)
    target, soft = (averaged.mean(0) / tau).softmax(-1), 0.0
    for head in logits:
        log_ratio = target.log() - (head / tau).log_softmax(-1)
        soft += tau**2 * (target * log_ratio).sum() / B
    torch.testing.assert_close(found.soft, soft)
    assert found.reliable == right_heads(logits, labels).any(0).double().mean()
    assert found.hard == SelfDistillationLoss(1.0, 0.3, tau)(list(logits), labels).hard
    with pytest.raises(AssertionError, match="no other heads"):
        loss(list(logits), labels)
    assert [name for name, teacher in TEACHERS.items() if teacher.averaged] == ["ema"]


def test_a_soft_teacher_begins_as_the_reliable_one_and_then_takes_in_every_sample(batch) -> None:
    logits, labels = batch
    first = soft_teacher(logits, labels, 0.0)
    assert all(map(torch.equal, first, reliable_teacher(logits, labels)))
    right = right_heads(logits, labels).any(0)
    assert right.any() and not right.all()
    _, weight = soft_teacher(logits, labels, 1.0)
    assert (weight[right] == 1).all()
    assert ((weight[~right] > 0) & (weight[~right] < 1)).all()


K4 = [0.0] * 4


@pytest.mark.parametrize(
    "heads, weight, teacher",
    [
        ([[99.0, 0, 0, 0]] * 3, 1, [99.0, 0, 0, 0]),  # one answer, all sure
        ([K4] * 3, 1 / 4, K4),  # none knows anything
        ([[99.0, 0, 0, 0], K4], 1 / 4, [49.5, 0, 0, 0]),
        ([[0, 7.0, 0, 0]], 1, [0, 7.0, 0, 0]),  # a single head
        ([[500.0, 0, 0, 0], [0, 500.0, 0, 0]], 0, None),  # two sure answers
        ([[99.0, 0, 0, 0], [99.0, 0, 0, 0], [0, 99.0, 0, 0]], 1 / 3, [99.0, 0, 0, 0]),  # outvoted
    ],
)
def test_heads_teach_as_far_as_they_agree(heads, weight, teacher) -> None:
    logits = torch.tensor(heads, dtype=torch.float64)[:, None]
    found, found_weight = consensus_teacher(logits, torch.tensor([2]), 0.5)
    assert float(found_weight) == pytest.approx(weight, abs=1e-12)
    if teacher is not None:
        torch.testing.assert_close(found[0], torch.tensor(teacher, dtype=torch.float64))


def test_agreement_is_blind_to_labels_and_lies_between_0_and_1(batch) -> None:
    logits, labels = batch
    for z in (logits, 50 * logits.float(), 1000 * logits.float()):
        teacher, weight = consensus_teacher(z, labels, 0.0)
        again = consensus_teacher(z, labels.roll(1), 1.0)
        assert teacher.equal(again[0]) and weight.equal(again[1])
        assert teacher.isfinite().all() and (weight >= 0).all() and (weight <= 1 + 1e-6).all()


def test_label_smoothing_is_the_cross_entropy_of_smoothed_labels(batch) -> None:
    logits, labels = batch
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = SelfDistillationLoss(1.0, 0.3, teacher=TEACHERS["label_smoothing"])
    loss(list(ours), labels).total.backward()
    for head in theirs:
        smooth = F.cross_entropy(head, labels, label_smoothing=SMOOTHING)
        (F.cross_entropy(head, labels) + 0.3 * smooth).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("heads", [1, N])
def test_without_a_teacher_the_loss_is_the_cross_entropy(batch, heads) -> None:
    """Where no head is right; and where one head is its own teacher."""
    logits, labels = batch[0][:heads], batch[1]
    if heads > 1:
        logits.scatter_(2, labels.expand(N, B)[..., None], -9.0)
    logits.requires_grad_()
    loss = SelfDistillationLoss(1.0, 0.3)(list(logits), labels)
    assert loss.soft == 0 and (loss.reliable == 0 or heads == 1)
    (gradient,) = torch.autograd.grad(loss.total, logits)
    (expected,) = torch.autograd.grad(sum(F.cross_entropy(z, labels) for z in logits), logits)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    "arguments", [(-1, 0.3), (1, float("nan")), (1, float("inf")), (1, 0.3, 0), (1, 0.3, -1)]
)
def test_numbers_without_meaning_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        SelfDistillationLoss(*arguments)


@pytest.mark.parametrize("smoothing", [-0.1, 1, float("nan")])
def test_labels_that_would_be_smoothed_away_are_refused(smoothing) -> None:
    with pytest.raises(ValueError, match="label_smoothing must be a finite number >= 0 and < 1"):
        SelfDistillationLoss(1, 0.3, label_smoothing=smoothing)
