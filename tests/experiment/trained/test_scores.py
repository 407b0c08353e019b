"""Counts of an evaluation against loops over single samples, and their closed forms."""

import numpy as np
import pytest
import torch

from experiment.trained.scores import (
    BINS,
    THRESHOLDS,
    add_counts,
    anytime_logits,
    count_batch,
    exit_steps,
    summarise,
)

T, B, K = 5, 37, 7
NAMES = tuple("abcdefg")


def sample(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    branches = [torch.randn(B, K, generator=generator) for _ in range(2)]
    time_logits = 2 * torch.randn(T, B, K, generator=generator)
    return branches, time_logits, torch.randint(K, (B,), generator=generator)


def summary(branches, time_logits, labels, thresholds=THRESHOLDS):
    return summarise(count_batch(branches, time_logits, labels, thresholds), thresholds, NAMES)


def test_accuracies_equal_those_of_a_loop():
    branches, time_logits, labels = sample()
    result = summary(branches, time_logits, labels)
    for t in range(1, T + 1):
        logits = time_logits[:t].double().mean(0)
        right = sum(int(logits[b].argmax() == labels[b]) for b in range(B))
        among_five = sum(int(labels[b] in logits[b].argsort()[-5:]) for b in range(B))
        assert result["steps"][t - 1]["top1"] == pytest.approx(100 * right / B)
        assert result["steps"][t - 1]["top5"] == pytest.approx(100 * among_five / B)
    for head, logits in enumerate(branches):
        expected = 100 * float((logits.argmax(1) == labels).double().mean())
        assert result["head_top1"][head] == pytest.approx(expected)
    assert result["top1"] == result["head_top1"][-1] == result["steps"][-1]["top1"]


def test_confusion_matrix_counts_every_sample_once():
    branches, time_logits, labels = sample()
    result = summary(branches, time_logits, labels)
    expected = np.zeros((K, K), dtype=int)
    for true, logits in zip(labels, time_logits.double().mean(0), strict=True):
        expected[int(true), int(logits.argmax())] += 1
    assert result["confusion"] == expected.tolist()
    assert result["class_top1"] == [
        100 * expected[k, k] / expected[k].sum() if expected[k].sum() else None for k in range(K)
    ]


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


def test_perfect_and_hopeless_confidence_have_errors_0_and_100():
    labels = torch.arange(K)
    sure = 1e4 * torch.eye(K)[None]
    assert summary([], sure, labels)["calibration"]["ece"] == 0
    assert summary([], sure.roll(1, 1), labels)["calibration"]["ece"] == 100


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


def test_anytime_logits_are_running_means():
    logits = torch.randn(T, 2, 3)
    expected = torch.stack([logits[: t + 1].double().mean(0) for t in range(T)])
    torch.testing.assert_close(anytime_logits(logits), expected)
