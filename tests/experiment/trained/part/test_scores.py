"""Counts of an evaluation against loops over single samples, and their closed forms."""

import pytest
import torch
from sklearn.metrics import confusion_matrix, recall_score, top_k_accuracy_score

from experiment.trained.part.scores import (
    BINS,
    THRESHOLDS,
    add_counts,
    count_batch,
    exit_steps,
    percentages,
)

T, B, K = 5, 37, 7
NAMES = tuple("abcdefg")


def sample(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    branches = [torch.randn(B, K, generator=generator) for _ in range(2)]
    time_logits = 2 * torch.randn(T, B, K, generator=generator)
    return branches, time_logits, torch.randint(K, (B,), generator=generator)


def summary(branches, time_logits, labels, thresholds=THRESHOLDS):
    return percentages(count_batch(branches, time_logits, labels, thresholds), thresholds, NAMES)


def accuracy(labels, logits, k=1):
    """Percent, by scikit-learn."""
    return pytest.approx(100 * top_k_accuracy_score(labels, logits, k=k, labels=range(K)))


def test_accuracies_are_those_of_scikit_learn():
    branches, time_logits, labels = sample()
    result = summary(branches, time_logits, labels)
    for t in range(1, T + 1):
        logits = time_logits[:t].double().mean(0)
        assert result["steps"][t - 1]["top1"] == accuracy(labels, logits)
        assert result["steps"][t - 1]["top5"] == accuracy(labels, logits, k=5)
    for head, logits in enumerate(branches):
        assert result["head_top1"][head] == accuracy(labels, logits)
    assert result["top1"] == result["head_top1"][-1] == result["steps"][-1]["top1"]
    assert result["steps_area"] == pytest.approx(sum(s["top1"] for s in result["steps"]) / T)


def test_confusion_matrix_is_that_of_scikit_learn():
    branches, time_logits, labels = sample()
    labels[labels == 3] = 2  # a class without samples
    result = summary(branches, time_logits, labels)
    prediction = time_logits.double().mean(0).argmax(1)
    expected = confusion_matrix(labels, prediction, labels=range(K))
    assert result["confusion"] == expected.tolist()
    there = [k for k in range(K) if k != 3]
    recall = 100 * recall_score(labels, prediction, labels=there, average=None)
    assert [result["class_top1"][k] for k in there] == pytest.approx(recall.tolist())
    assert result["class_top1"][3] is None


def test_calibration_error_equals_its_definition():
    branches, time_logits, labels = sample()
    result = summary(branches, time_logits, labels)["calibration"]
    confidence, prediction = time_logits.double().mean(0).softmax(1).max(1)
    confidence, right = confidence.numpy(), (prediction == labels).numpy()
    expected = 0.0
    for number in range(BINS):
        chosen = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        assert result["bins"][number]["samples"] == chosen.sum()
        if chosen.any():
            gap = abs(right[chosen].mean() - confidence[chosen].mean())
            expected += 100 * chosen.mean() * gap
    assert result["ece"] == pytest.approx(expected)


def test_exit_is_the_first_step_above_the_threshold_and_the_last_at_the_latest():
    confidence = torch.tensor([[0.3, 0.9, 0.5], [0.6, 0.2, 0.5], [0.95, 0.1, 0.5]])
    steps = exit_steps(confidence, torch.tensor([0.0, 0.5, 0.9, 1.0]))
    assert steps.tolist() == [[0, 0, 0], [1, 0, 2], [2, 2, 2], [2, 2, 2]]


def test_a_higher_threshold_never_takes_fewer_steps():
    rows = summary(*sample())["early_exit"]
    costs = [row["mean_steps"] for row in rows]
    assert costs == sorted(costs)
    assert len(set(costs)) > 3
    assert (costs[0], costs[-1]) == (1, T)
    result = summary(*sample())
    assert rows[0]["top1"] == result["steps"][0]["top1"]
    assert rows[-1]["top1"] == result["top1"]


def test_counts_of_parts_add_up_to_those_of_the_whole():
    branches, time_logits, labels = sample()
    whole = count_batch(branches, time_logits, labels, THRESHOLDS)
    parts: dict[str, torch.Tensor] = {}
    for part in (slice(0, 1), slice(1, 20), slice(20, B)):
        addends = count_batch(
            [logits[part] for logits in branches], time_logits[:, part], labels[part], THRESHOLDS
        )
        parts = add_counts(parts, addends)
    for name, value in whole.items():
        if value.is_floating_point():
            torch.testing.assert_close(parts[name], value, msg=name)
        else:
            assert torch.equal(parts[name], value), name
