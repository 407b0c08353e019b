"""Which samples are for training and which for the test, decided by index alone.

published    a random tenth is the test set: torch's random_split with seed 42 over the samples in
             the order of class folders and file names, as in the published runs
tebn         the first tenth of each class by the number in the file name is the test set, samples
             0-99 of CIFAR10-DVS (Duan et al., "Temporal Effective Batch Normalization in Spiking
             Neural Networks", NeurIPS 2022); accuracies are higher than with "published"
stratified   a random part, --test_fraction, with equal shares of each class, is the test set
given        as the authors of the data set split it, in folders train/ and test/

Accuracies of different splits must not be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import random_split

from util.stratify import stratified_split

RANDOM_TENTH, FIRST_TENTH, STRATIFIED, GIVEN = "published", "tebn", "stratified", "given"
TEST_FRACTION = 0.2  # of the samples of a stratified split


def train_and_test(
    split: str, samples: Sequence[tuple[str, int]], test_fraction: float = TEST_FRACTION
) -> tuple[list[int], list[int]]:
    """Indices of the training and of the test set among `samples`, (path, label) pairs.

    `split` is any but "given", `test_fraction` that of a stratified one. Raises ValueError for a
    path without a number, where it counts.
    """
    indices = range(len(samples))
    if split == RANDOM_TENTH:
        test_length = len(samples) // 10
        parts = random_split(
            indices, [len(samples) - test_length, test_length], torch.Generator().manual_seed(42)
        )
        return parts[0].indices, parts[1].indices
    if split == FIRST_TENTH:
        in_class = Counter(label for _, label in samples)
        is_test = [10 * _number(path) < in_class[label] for path, label in samples]
        return [i for i in indices if not is_test[i]], [i for i in indices if is_test[i]]
    assert split == STRATIFIED, split
    labels = [label for _, label in samples]
    return stratified_split(labels, test_fraction, part="test", seed=0)


def _number(path: str) -> int:
    """5 of .../cifar10_airplane_5.npz."""
    try:
        return int(Path(path).stem.rsplit("_", 1)[1])
    except (IndexError, ValueError):
        raise ValueError(
            f"{path}: the {FIRST_TENTH} split goes by the number that the file name ends in, as "
            "in cifar10_airplane_5.npz"
        ) from None
