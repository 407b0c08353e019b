"""What an evaluation counts, batch by batch, and what it says in the end.

Everything that is counted can be added up over batches and processes; percentages are taken last.

    confidence   largest softmax probability of the mean of the logits over the steps so far
    area         under the curve of accuracy against steps taken, as its mean height: the mean of
                 the accuracies after 1, ..., T steps. It is high where early answers are good
    early exit   the first step whose confidence is above a threshold answers, the last step at
                 the latest; its cost is the number of steps taken
    calibration  ECE = sum_b n_b / n |accuracy_b - confidence_b| over BINS bins of equal width
                 (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017)

Shapes: T time steps, B batch, K classes, N heads, M thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from util.misc import top_k_correct

BINS = 15
THRESHOLDS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0)


def anytime_logits(time_logits: Tensor) -> Tensor:
    """Mean over the steps so far: (T, B, K) -> (T, B, K), float64."""
    steps = torch.arange(1, len(time_logits) + 1, device=time_logits.device)
    return time_logits.double().cumsum(0) / steps.view(-1, 1, 1)


def exit_steps(confidence: Tensor, thresholds: Tensor) -> Tensor:
    """Index of the step that answers: confidence (T, B), thresholds (M,) -> (M, B)."""
    sure = confidence > thresholds.view(-1, 1, 1)  # (M, T, B)
    sure[:, -1] = True
    return sure.to(torch.uint8).argmax(1)


def count_batch(
    branches: Sequence[Tensor], time_logits: Tensor, labels: Tensor, thresholds: Sequence[float]
) -> dict[str, Tensor]:
    """The addends of one batch; branches N-1 times (B, K), time_logits (T, B, K), labels (B,)."""
    anytime = anytime_logits(time_logits)
    steps, batch, classes = anytime.shape
    final = anytime[-1]
    heads = torch.stack([*(logits.double() for logits in branches), final])
    by_head, by_step = top_k_correct(heads, labels), top_k_correct(anytime, labels)
    confidence, prediction = anytime.softmax(-1).max(-1)  # (T, B) each
    hits = prediction == labels
    exits = exit_steps(confidence, torch.tensor(thresholds, device=labels.device).double())
    cells = labels * classes + prediction[-1]
    bins = (confidence[-1] * BINS).ceil().long().clamp(1, BINS) - 1

    def per_bin(values: Tensor) -> Tensor:
        return torch.bincount(bins, values.double(), minlength=BINS)

    return {
        "samples": torch.tensor(batch, device=labels.device),
        "loss": F.cross_entropy(final, labels, reduction="sum"),
        "head_top1": by_head[1],
        "head_top5": by_head[5],
        "step_top1": by_step[1],
        "step_top5": by_step[5],
        "step_confidence": confidence.sum(1),
        "confusion": torch.bincount(cells, minlength=classes**2).view(classes, classes),
        "exit_correct": hits.gather(0, exits).sum(1),
        "exit_steps": F.one_hot(exits, steps).sum(1),  # (M, T)
        "bin_samples": per_bin(torch.ones_like(confidence[-1])),
        "bin_correct": per_bin(hits[-1]),
        "bin_confidence": per_bin(confidence[-1]),
    }


def add_counts(sums: dict[str, Tensor], addends: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sums with a batch added."""
    return {name: value + sums.get(name, 0) for name, value in addends.items()}


def percentages(
    sums: dict[str, Tensor], thresholds: Sequence[float], class_names: Sequence[str]
) -> dict[str, Any]:
    """What was counted as plain types, in percent; `samples` and `confusion` stay counts."""
    samples = int(sums["samples"])
    confusion = sums["confusion"].tolist()

    def percent(name: str) -> list[float]:
        return [100 * count / samples for count in sums[name].tolist()]

    confidences = [total / samples for total in sums["step_confidence"].tolist()]
    step_top1 = percent("step_top1")
    steps = zip(step_top1, percent("step_top5"), confidences, strict=True)
    exits = zip(thresholds, percent("exit_correct"), sums["exit_steps"].tolist(), strict=True)
    return {
        "samples": samples,
        "loss": sums["loss"].item() / samples,
        "top1": percent("head_top1")[-1],
        "top5": percent("head_top5")[-1],
        "head_top1": percent("head_top1"),
        "head_top5": percent("head_top5"),
        "steps": [
            {"t": t, "top1": top1, "top5": top5, "confidence": confidence}
            for t, (top1, top5, confidence) in enumerate(steps, 1)
        ],
        "steps_area": sum(step_top1) / len(step_top1),
        "early_exit": [
            {
                "threshold": threshold,
                "mean_steps": mean_steps(counts),
                "top1": top1,
                "exits_at_step": counts,
            }
            for threshold, top1, counts in exits
        ],
        "calibration": calibration(sums),
        "classes": list(class_names),
        "class_top1": [
            100 * row[k] / sum(row) if sum(row) else None for k, row in enumerate(confusion)
        ],
        "confusion": confusion,
    }


def mean_steps(counts: Sequence[int]) -> float:
    """Mean number of steps where counts[t] samples took t + 1."""
    return sum(t * count for t, count in enumerate(counts, 1)) / sum(counts)


def calibration(sums: dict[str, Tensor]) -> dict[str, Any]:
    """ECE in percent, and the bins behind it; an empty bin has no accuracy and no confidence."""
    columns = (sums[f"bin_{name}"].tolist() for name in ("samples", "correct", "confidence"))
    bins, error = [], 0.0
    for number, (count, correct, confidence) in enumerate(zip(*columns, strict=True)):
        error += abs(correct - confidence)
        entry = {
            "from": number / BINS,
            "to": (number + 1) / BINS,
            "samples": int(count),
            "accuracy": 100 * correct / count if count else None,
            "confidence": 100 * confidence / count if count else None,
        }
        bins.append(entry)
    return {"ece": 100 * error / int(sums["samples"]), "number_of_bins": BINS, "bins": bins}
