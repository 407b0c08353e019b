"""What has to be finite beside losses and gradients (`update`): samples, and evaluations.

A spiking network hides a sample with NaN or infinity: neurons whose current is NaN do not fire, the
loss stays a number, and only the gradient shows it. So samples are looked at by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from experiment.train.batches import StepBatches
from experiment.train.failure import NonFiniteError
from experiment.train.state import TrainingState
from experiment.train.task import Training
from util.process.distributed import Group

NONE = 2**62  # above the number of every sample


class FiniteCheck:
    """Which samples of `name` hold NaN or infinity, noted on the device while batches pass.

    indices: the numbers in the data set of the samples that this process sees, in their order.
    """

    def __init__(self, name: str, indices: Sequence[int], group: Group):
        self.name, self.indices, self.group = name, indices, group
        self.bad = [torch.zeros(0, dtype=torch.bool, device=group.device)]

    def note(self, x: Tensor) -> None:
        """Look at a network input, (B, C, H, W) or (T, B, C, H, W); nothing goes to the host."""
        self.bad.append(~x.isfinite().movedim(-4, 0).flatten(1).all(1))

    def refuse(self, place: str = "") -> None:
        """ValueError in every process if any has seen a bad sample; one transfer to the host."""
        bad = torch.cat(self.bad)
        count = int(self.group.sum(bad.sum()))
        if count == 0:
            return
        own = min((self.indices[i] for i in bad.nonzero().flatten().tolist()), default=NONE)
        first = -self.group.max(-own)
        raise ValueError(
            f"{place}{count} {'sample holds' if count == 1 else 'samples hold'} NaN or infinity in "
            f"{self.name} (number {first} is the first, counted from 0): these data are no input "
            "of a network, mend them or leave them out"
        )


@contextmanager
def bad_samples_named(
    training: Training, batches: StepBatches, state: TrainingState
) -> Iterator[None]:
    """Say of a NonFiniteError in a training step, which all processes share, if data cause it.

    Raises: ValueError that names the samples.
    """
    try:
        yield
    except NonFiniteError as error:
        data, group = training.data, training.group
        keys = batches.keys(error.step)
        numbers = [index for _, index in keys]
        check = FiniteCheck(f"the training set of {data.name}", numbers, group)
        for key in keys:
            images, _ = default_collate([data.train[key]])
            check.note(data.to_input(images.to(group.device)))
        check.refuse(f"{state.place_of(error.step)}: ")
        raise


def refuse_non_finite_evaluation(evaluations: dict[str, dict[str, Any]], place: str) -> None:
    """NonFiniteError if an evaluation's loss is not finite."""
    for name, result in evaluations.items():
        if not math.isfinite(result["loss"]):
            raise NonFiniteError(
                f"{place}: the loss on the {name} set is {result['loss']}, the weights have "
                "diverged; the checkpoints before are untouched: try a lower --lr"
            )
