"""experiment.dvs.split: the splits of the literature, as they are defined on the whole data set."""

from collections import Counter

import pytest
import torch
from torch.utils.data import TensorDataset, random_split

from experiment.dvs.split import split_indices, stratified
from tests.support.event_files import CLASSES


def cifar10_dvs(samples: int = 1000) -> list[tuple[str, int]]:
    """(path, label) in the order of torchvision's DatasetFolder: names sorted as text."""
    return [
        (f"data/frames/{name}/{stem}.npz", label)
        for label, name in enumerate(CLASSES)
        for stem in sorted(f"cifar10_{name}_{number}" for number in range(samples))
    ]


def test_published_is_torchs_random_split_of_the_data_set():
    train, test = split_indices("published", cifar10_dvs())
    data = TensorDataset(torch.arange(10_000))
    parts = random_split(data, [9000, 1000], generator=torch.Generator().manual_seed(42))
    assert [data[i][0].item() for i in train] == [item.item() for (item,) in parts[0]]
    assert [data[i][0].item() for i in test] == [item.item() for (item,) in parts[1]]


def test_tebn_tests_on_numbers_0_to_99_of_each_class():
    samples = cifar10_dvs()
    train, test = split_indices("tebn", samples)
    wanted = {f"data/frames/{c}/cifar10_{c}_{n}.npz" for c in CLASSES for n in range(100)}
    assert {samples[i][0] for i in test} == wanted
    assert sorted(train + test) == list(range(10_000)) and len(test) == 1000


def test_stratified_takes_a_fifth_of_each_class():
    counts = (178, 182, 177, 183, 181)
    samples = [
        (f"{k}/digits_{k}_{n}.npz", k) for k, count in enumerate(counts) for n in range(count)
    ]
    train, test = split_indices("stratified", samples)
    assert sorted(train + test) == list(range(sum(counts)))
    in_test = Counter(samples[i][1] for i in test)
    assert all(abs(in_test[label] - count / 5) < 1 for label, count in enumerate(counts))
    assert (train, test) == split_indices("stratified", samples)


def test_the_splits_differ():
    samples = cifar10_dvs()
    assert set(split_indices("published", samples)[1]) != set(split_indices("tebn", samples)[1])


def test_tebn_needs_numbers():
    with pytest.raises(ValueError, match=r"cat/whiskers.npz: the tebn split goes by the number"):
        split_indices("tebn", [("cat/whiskers.npz", 0)])


def test_stratified_by_indices_and_its_limits():
    indices = list(range(100, 140))
    labels = [i % 2 for i in indices]
    rest, held_out = stratified(indices, labels, fraction=0.25, seed=1)
    assert sorted(rest + held_out) == indices and len(held_out) == 10
    assert Counter(i % 2 for i in held_out) == {0: 5, 1: 5}
    with pytest.raises(ValueError, match=r"a fraction 0.02 of 40 samples does not leave"):
        stratified(indices, labels, fraction=0.02, seed=1)
