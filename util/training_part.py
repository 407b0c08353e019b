"""Training sets that are small or wrong on purpose: few samples of each class, noisy labels.

Neither is from the paper. Both are pure functions of the labels and a seed: no reading order, no
worker and no resumed run changes them. Validation and test sets are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from util.process.sampler import mixed_seed


@dataclass(frozen=True)
class TrainingPart:
    """What of a training set is learned from.

    per_class: samples of each class, drawn by `seed`; None: all.
    label_noise: share, from 0 to below 1, of the labels of these that are replaced; 0: none.
    """

    per_class: int | None = None
    label_noise: float = 0.0
    seed: int = 0

    def of(
        self, samples: Dataset, labels: Sequence[int], class_names: Sequence[str]
    ) -> tuple[Dataset, tuple[str, ...]]:
        """That part of `samples`, whose labels are `labels`, and a line on each thing done.

        Nothing is read: an item is one of `samples`, perhaps with another label.
        Raises: ValueError where a class has too few, or where there is no other label.
        """
        labels = torch.as_tensor(labels)
        notes = []
        if self.per_class is not None:
            chosen = random_subset(labels, self.per_class, self.seed, class_names)
            notes.append(
                f"training set: {self.per_class:,} of each of {len(class_names)} classes, "
                f"{len(chosen):,} of {len(labels):,} samples (--train_per_class {self.per_class}, "
                f"seed {self.seed})"
            )
            samples, labels = Subset(samples, chosen), labels[chosen]
        if self.label_noise:
            noisy = noisy_labels(labels, len(class_names), self.label_noise, self.seed)
            notes.append(
                f"training labels: {int((noisy != labels).sum()):,} of {len(labels):,} were "
                f"replaced (--label_noise {self.label_noise:g}, seed {self.seed})"
            )
            samples = Relabelled(samples, noisy)
        return samples, tuple(notes)


WHOLE = TrainingPart()  # all samples, with their own labels


@dataclass(frozen=True, eq=False)
class Relabelled(Dataset):
    """The samples of a data set, (image, label), with labels (N,) in place of their own."""

    samples: Dataset
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, _ = self.samples[index]
        return image, self.labels[index]


def random_subset(
    labels: Tensor, per_class: int, seed: int, class_names: Sequence[str]
) -> list[int]:
    """Ascending indices of `per_class` samples of each class, drawn anew for each number and seed.

    labels: (N,) int64. Raises: ValueError that names the smallest class if it has fewer.
    """
    counts = labels.bincount(minlength=len(class_names))
    fewest = int(counts.argmin())
    if counts[fewest] < per_class:
        raise ValueError(
            f"class {class_names[fewest]!r} has {int(counts[fewest]):,} training samples, and "
            f"--train_per_class asks for {per_class:,} of each class: give a smaller number, or "
            "add samples to it"
        )
    generator = torch.Generator().manual_seed(mixed_seed("subset", seed, per_class))
    order = torch.randperm(len(labels), generator=generator)
    drawn = [order[labels[order] == label][:per_class] for label in range(len(class_names))]
    return torch.cat(drawn).sort().values.tolist()


def noisy_labels(labels: Tensor, num_classes: int, share: float, seed: int) -> Tensor:
    """A copy of `labels` (N,), of which round(share N) are another class, each as likely.

    This is symmetric label noise. Raises: ValueError for fewer than two classes.
    """
    if num_classes < 2:
        raise ValueError(
            f"--label_noise {share:g}: there is {num_classes} class, and no other label to give: "
            "leave it out, or add classes"
        )
    generator = torch.Generator().manual_seed(mixed_seed("label noise", seed))
    chosen = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    steps = torch.randint(1, num_classes, chosen.shape, generator=generator)
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + steps) % num_classes
    return noisy
