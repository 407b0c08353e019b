"""The reliable teacher and the loss against loops written from the definitions."""

import pytest
import torch
import torch.nn.functional as F

from model.distillation import SelfDistillationLoss, reliable_teacher

N, B, K = 3, 7, 5


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(N, B, K, generator=generator, dtype=torch.float64)
    labels = torch.randint(K, (B,), generator=generator)
    logits[:, 0, labels[0]] = -9.0  # no head is right on the first sample
    logits[:, 1, labels[1]] = 9.0  # all are right on the second
    return logits, labels


def loss_by_loops(logits, labels, alp: float, beta: float, temperature: float):
    hard = sum((1 if n == N - 1 else alp) * F.cross_entropy(logits[n], labels) for n in range(N))
    terms = []
    for b in range(B):
        right = [n for n in range(N) if logits[n, b].argmax() == labels[b]]
        if right:
            teacher = torch.stack([logits[n, b] for n in right]).mean(0).detach()
            target = (teacher / temperature).softmax(-1)
            for n in range(N):
                student = (logits[n, b] / temperature).softmax(-1)
                terms.append((target * (target / student).log()).sum())
    samples = len(terms) // N
    soft = temperature**2 * sum(terms) / samples if samples else torch.zeros(())
    return hard + beta * soft, hard, soft, samples / B


@pytest.mark.parametrize("alp, beta, temperature", [(1.0, 0.3, 3.0), (0.5, 0.7, 1.5), (0, 0, 3)])
def test_loss_and_gradient_equal_the_definition(batch, alp, beta, temperature) -> None:
    logits, labels = batch
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = SelfDistillationLoss(alp, beta, temperature)(list(ours), labels)
    expected = loss_by_loops(theirs, labels, alp, beta, temperature)
    for value, other in zip(loss, expected, strict=True):
        torch.testing.assert_close(value, torch.as_tensor(other, dtype=torch.float64))
    loss.total.backward()
    expected[0].backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_teacher_is_the_mean_of_the_heads_that_are_right(batch) -> None:
    logits, labels = batch
    teacher, reliable = reliable_teacher(logits.requires_grad_(), labels)
    assert not teacher.requires_grad
    assert (reliable.dtype, reliable.shape) == (torch.bool, (B,))
    assert not reliable[0] and reliable[1]
    torch.testing.assert_close(teacher[0], torch.zeros(K, dtype=torch.float64))
    torch.testing.assert_close(teacher[1], logits[:, 1].mean(0))


def test_without_a_teacher_the_loss_is_the_cross_entropy(batch) -> None:
    logits, labels = batch
    for b in range(B):
        logits[:, b, labels[b]] = -9.0
    logits.requires_grad_()
    loss = SelfDistillationLoss(1.0, 0.3)(list(logits), labels)
    assert loss.soft == 0 and loss.reliable == 0
    (gradient,) = torch.autograd.grad(loss.total, logits)
    (expected,) = torch.autograd.grad(sum(F.cross_entropy(z, labels) for z in logits), logits)
    torch.testing.assert_close(gradient, expected)


def test_one_head_alone_learns_from_the_label_only(batch) -> None:
    logits, labels = batch
    loss = SelfDistillationLoss(1.0, 0.3)([logits[0]], labels)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits[0], labels))
    assert loss.soft == 0


@pytest.mark.parametrize(
    "arguments", [(-1, 0.3), (1, float("nan")), (1, float("inf")), (1, 0.3, 0), (1, 0.3, -1)]
)
def test_numbers_without_meaning_are_refused(arguments) -> None:
    with pytest.raises(ValueError, match="must be a finite number"):
        SelfDistillationLoss(*arguments)
