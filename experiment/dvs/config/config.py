"""The flags of experiment/dvs/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from experiment.dvs.recording.source import DATASETS, SPLITS
from experiment.flag.idle import EVALUATING
from experiment.flag.kinds import OneOf, Switch
from experiment.flag.parser import FlagParser
from experiment.flag.row import Flag, Role
from experiment.flag.table import cache_flag, experiment_flags

PAPER = {
    "seed": 60,
    "arch": "resnet18",
    "dataset": "CIFAR10_DVS",
    "num_workers": 8,
    "T": 10,
    "train_batch_size": 32,
    "val_batch_size": 32,
    "num_epoch": 300,
    "lr": 0.1,
    "wd": 5e-4,
    "alp": 1.0,
    "beta": 0.1,
}


OWN_FLAGS = {
    "events": (
        Flag("split", OneOf(SPLITS), None, Role.DATA).means(
            "training and test set; CIFAR10_DVS has two, whose accuracies must not be compared: "
            "published (default) and tebn; the other data sets have one each"
        ),
        cache_flag("frames (and simulated or unpacked recordings) are put"),
        Flag("event_aug", Switch(), True, Role.DATA, idle=(EVALUATING,)).means(
            "mirror, and roll, rotate or cut out, whole samples"
        ),
        Flag("shuffle_frames", Switch(), False, Role.DATA).means(
            "put each sample's frames in a random order: a control for what it is worth"
        ),
    )
}
FLAGS = experiment_flags(PAPER, DATASETS, OWN_FLAGS)


def get_parser() -> FlagParser:
    """Every flag of the experiment with its default."""
    return FlagParser("Train a spiking network on event data.", FLAGS)
