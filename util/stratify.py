"""Samples held out of a set, with equal shares of each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from util.process.sampler import mixed_seed


def stratified_split(
    labels: Sequence[int],
    fraction: float,
    *,
    part: str = "validation",
    seed: int = mixed_seed("validation", 0) % 2**32,
) -> tuple[list[int], list[int]]:
    """Indices of the rest and of a held-out `fraction`, with equal shares of each label.

    No seed of a run has a part in it: runs of several seeds are compared on the same samples.
    part: what is held out, for messages.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(f"{part} fraction {fraction}: expected more than 0 and less than 1")
    try:
        rest, held_out = train_test_split(
            range(len(labels)), test_size=fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise ValueError(
            f"{part} fraction {fraction} of {len(labels)} samples does not leave every class "
            "on both sides: choose another fraction"
        ) from error
    return rest, held_out


def refuse_small_classes(
    labels: Sequence[int], class_names: Sequence[str], fraction: float, noun: str
) -> None:
    """ValueError that names the smallest class if it would be missing on one side of a test split.

    noun: what the samples are called.
    """
    label, count = min(Counter(labels).items(), key=lambda pair: pair[::-1])
    if count * min(fraction, 1 - fraction) < 1 - 1e-9:
        raise ValueError(
            f"class {class_names[label]!r} has {count} {noun}, of which --test_fraction "
            f"{fraction:g} does not leave one on each side: add some, or choose a fraction nearer "
            "to 0.5"
        )
