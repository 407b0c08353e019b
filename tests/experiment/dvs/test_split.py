"""experiment.dvs.split: the splits of the literature, as they are defined on the whole data set."""

from collections import Counter

import pytest
import torch
from sklearn.model_selection import train_test_split
from torch.utils.data import random_split

from experiment.dvs.split import train_and_test
from tests.support.event_files import CLASSES

# (path, label) in the order of torchvision's DatasetFolder: names sorted as text.
CIFAR10_DVS = [
    (f"data/frames/{name}/{stem}.npz", label)
    for label, name in enumerate(CLASSES)
    for stem in sorted(f"cifar10_{name}_{number}" for number in range(1000))
]


def test_published_is_torchs_random_split_of_the_data_set():
    generator = torch.Generator().manual_seed(42)
    parts = random_split(range(10_000), [9000, 1000], generator=generator)
    assert train_and_test("published", CIFAR10_DVS) == tuple(map(list, parts))


def test_tebn_tests_on_numbers_0_to_99_of_each_class():
    train, test = train_and_test("tebn", CIFAR10_DVS)
    wanted = {f"data/frames/{c}/cifar10_{c}_{n}.npz" for c in CLASSES for n in range(100)}
    assert {CIFAR10_DVS[i][0] for i in test} == wanted
    assert sorted(train + test) == list(range(10_000)) and len(test) == 1000
    with pytest.raises(ValueError, match=r"cat/whiskers.npz: the tebn split goes by the number"):
        train_and_test("tebn", [("cat/whiskers.npz", 0)])


def test_stratified_takes_a_fifth_of_each_class():
    counts = (178, 182, 177, 183, 181)
    samples = [
        (f"{k}/digits_{k}_{n}.npz", k) for k, count in enumerate(counts) for n in range(count)
    ]
    train, test = train_and_test("stratified", samples)
    assert sorted(train + test) == list(range(sum(counts)))
    in_test = Counter(samples[i][1] for i in test)
    assert all(abs(in_test[label] - count / 5) < 1 for label, count in enumerate(counts))
    assert (train, test) == train_and_test("stratified", samples)
    assert (train, test) == tuple(
        train_test_split(
            range(len(samples)), test_size=0.2, stratify=[k for _, k in samples], random_state=0
        )
    ), "as runs of earlier versions had it"
    assert abs(len(train_and_test("stratified", samples, 0.4)[1]) - 0.4 * len(samples)) < 1
