"""What runs of the published code reached, and the recipe that a run is compared with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from experiment.dvs.recording.source import SOURCES
from experiment.flag.identity import differences
from experiment.flag.kinds import Location, Or
from experiment.flag.lookup import defaults_of, flags_of
from experiment.flag.row import IDENTITY, Flag, without_effect
from util.data import DATA_RECIPES

SOURCE = "the code of arXiv 2510.06254, seed 60"


class PublishedRun(NamedTuple):
    """Test accuracies in percent; top1: after some of its epochs, counted from 0."""

    num_epoch: int
    top1: dict[int, float]
    best: float


PUBLISHED = {  # by data set
    "CIFAR100": PublishedRun(
        num_epoch=300,
        top1={
            0: 6.1,
            1: 12.0,
            9: 32.1,
            19: 36.6,
            49: 54.1,
            99: 55.7,
            149: 62.3,
            199: 70.2,
            249: 76.4,
        },
        best=80.2,
    ),
    "imagenet": PublishedRun(
        num_epoch=100, top1={0: 17.5, 1: 32.2, 9: 53.8, 19: 58.0, 49: 64.1}, best=70.7
    ),
}


def recipe_differences(arguments: dict[str, Any]) -> list[str]:
    """The flags in which a run differs from the paper's recipe for its data set, in words.

    arguments: every flag of the run, paths as text; those that others leave without effect are
    passed over.
    """
    dataset = arguments["dataset"]
    flags, recipe = flags_of(dataset), defaults_of(dataset) | {"dataset": dataset}
    places = [flag.name for flag in flags if isinstance(flag.kind, Location)]
    paths = {name: Path(arguments[name]) for name in places if arguments.get(name) is not None}
    silent = without_effect(flags, argparse.Namespace(**recipe | arguments | paths))
    named = [flag for flag in flags if flag.role in IDENTITY and flag.name not in silent]
    run, paper = (
        {flag.name: meant(dataset, flag, values[flag.name]) for flag in named}
        for values in (arguments, recipe)
    )
    return differences(run, paper, wanted_as="published")


def meant(dataset: str, flag: Flag, value: Any) -> Any:
    """A flag's value; where it has none, what the data set does, or the word for it."""
    if value is not None:
        return value
    if dataset in DATA_RECIPES and flag.name in DATA_RECIPES[dataset].augmentation:
        return DATA_RECIPES[dataset].augmentation[flag.name]
    if flag.name == "split" and dataset in SOURCES:
        return SOURCES[dataset].splits[0]
    return flag.kind.none[0] if isinstance(flag.kind, Or) and flag.kind.none else None
