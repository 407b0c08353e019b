"""What a training is given: what a command asks for, the data, the recipe, the processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset

from experiment.train.recipe import Recipe
from util.process.distributed import Group, share_of_batch


@dataclass(frozen=True)
class Request:
    """What to do, where, and from where to go on.

    arguments: every flag with its value as JSON has it, paths from any folder; for config.json.
    identity: those of them that decide what is computed; a run is resumed with the same only.
    silent: the names of those that others leave without effect.
    resume: a checkpoint in its run folder, "auto" or None; init: a file with initial weights;
    changed_data: whether the number of training samples may be another than the checkpoint's.
    """

    arguments: dict[str, Any]
    identity: dict[str, Any]
    silent: frozenset[str]
    log_path: Path
    run_name: str
    resume: Path | str | None
    init: Path | None
    changed_data: bool
    evaluate: Path | None
    device: str | None
    dist_timeout: float  # minutes


class Data(Protocol):
    """What training needs of a data set; `util.data.ImageData` is one."""

    name: str
    train: Dataset  # keyed by (epoch, index)
    validation: Dataset | None
    test: Dataset
    class_names: tuple[str, ...]
    channels: int
    image_size: int  # pixels, height = width
    notes: tuple[str, ...]  # for the log: what was done to the training set

    def to_input(self, batch: Tensor) -> Tensor:
        """A batch as loaded -> what the network takes, on the batch's device."""

    def draw_into(self, folder: Path) -> None:
        """Draw what there is to see of the samples into the folder of a run, before it begins."""


@dataclass(frozen=True)
class Training:
    """group: this process among those that share the work."""

    data: Data
    recipe: Recipe
    group: Group

    @cached_property
    def part(self) -> int:
        """Images of this process in each of the --accum parts of a step.

        Raises: ValueError if processes and parts do not divide the batch evenly.
        """
        recipe = self.recipe
        return share_of_batch(recipe.train_batch_size, self.group, parts=recipe.accum)

    @property
    def share(self) -> int:
        """Images of this process in a step."""
        return self.part * self.recipe.accum
