"""util.training_part: how many, which and whose labels, by the seed alone."""

import pytest
import torch

from util.training_part import WHOLE, TrainingPart, noisy_labels, random_subset

NAMES = tuple("abcd")
LABELS = torch.arange(400).remainder(7).clamp(max=3)  # 58, 57, 57 and 228 of them, mixed


class Unread:
    """Samples that may not be read yet."""

    def __getitem__(self, index):
        pytest.fail("read too early")


def subset(per_class=20, seed=1):
    return random_subset(LABELS, per_class, seed, NAMES)


def test_a_subset_has_as_many_of_each_class_and_is_drawn_by_the_seed():
    draws = {(n, seed): subset(n, seed) for n in (1, 20, 25) for seed in (1, 2, 3)}
    for (n, seed), chosen in draws.items():
        assert LABELS[chosen].bincount().tolist() == [n] * 4
        assert chosen == sorted(set(chosen)) == subset(n, seed)
    for (n, seed), one in draws.items():
        others = [other for key, other in draws.items() if n > 1 and key != (n, seed)]
        assert not any(set(one) <= set(other) for other in others), "none is nested in another"


def test_every_sample_of_a_class_may_be_drawn():
    drawn = {index for seed in range(60) for index in subset(50, seed)}
    assert drawn == set(range(400))


def test_a_class_with_too_few_is_named():
    assert len(subset(57)) == 4 * 57
    sentence = (
        "class 'b' has 57 training samples, and --train_per_class asks for 58 of each class: "
    )
    with pytest.raises(ValueError, match=sentence + "give a smaller number"):
        subset(58)
    with pytest.raises(ValueError, match="class 'e' has 0 training samples"):
        random_subset(LABELS, 1, 0, "abcde")


@pytest.mark.parametrize(
    ("count", "share", "classes", "replaced"),
    [(6000, 0.4, 10, 2400), (7, 0.5, 4, 4), (9, 0.05, 4, 0), (100, 0.999, 2, 100), (5, 0, 4, 0)],
)
def test_exactly_that_share_of_labels_becomes_another_class(count, share, classes, replaced):
    labels = torch.arange(count) % classes
    before = labels.clone()
    noisy = noisy_labels(labels, classes, share, 3)
    assert (noisy != labels).sum() == replaced
    assert torch.equal(labels, before) and noisy.dtype == labels.dtype
    assert noisy.min() >= 0 and noisy.max() < classes
    assert torch.equal(noisy, noisy_labels(labels, classes, share, 3))
    if replaced > 10 and classes > 2:
        assert not torch.equal(noisy, noisy_labels(labels, classes, share, 4))


def test_each_other_class_is_as_likely_and_so_is_each_sample():
    labels = torch.arange(20_000) % 5
    noisy = noisy_labels(labels, 5, 0.5, 0)
    pairs = torch.zeros(5, 5, dtype=torch.int64)
    pairs.index_put_((labels, noisy), torch.tensor(1), accumulate=True)
    others = pairs[~torch.eye(5, dtype=torch.bool)]
    assert others.min() > 400 and others.max() < 600  # 500 each, within five deviations
    halves = (noisy != labels).view(10, -1).sum(1)
    assert halves.min() > 880 and halves.max() < 1120  # 1,000 each


def test_one_class_has_no_other_label():
    with pytest.raises(
        ValueError, match=r"--label_noise 0\.5: there is 1 class, and no other label"
    ):
        noisy_labels(torch.zeros(4, dtype=torch.int64), 1, 0.5, 0)


def test_what_was_done_is_said_and_nothing_read():
    part, unread = TrainingPart(20, 0.25, seed=7), Unread()
    samples, notes = part.of(unread, LABELS, NAMES)
    assert notes == (
        "training set: 20 of each of 4 classes, 80 of 400 samples (--train_per_class 20, seed 7)",
        "training labels: 20 of 80 were replaced (--label_noise 0.25, seed 7)",
    )
    assert len(samples) == 80
    assert WHOLE.of(unread, LABELS, NAMES) == (unread, ())


def test_a_sample_is_the_drawn_one_with_its_own_or_a_noisy_label():
    pairs = [(index, int(label)) for index, label in enumerate(LABELS)]
    few, _ = TrainingPart(20, seed=1).of(pairs, LABELS.tolist(), NAMES)
    assert [few[i] for i in range(80)] == [pairs[index] for index in subset()]
    noisy, _ = TrainingPart(20, 0.25, seed=1).of(pairs, LABELS.numpy(), NAMES)
    labels = noisy_labels(LABELS[subset()], 4, 0.25, 1).tolist()
    items = [noisy[i] for i in range(80)]
    assert items == list(zip(subset(), labels, strict=True))
