"""The flags of experiment/cifar/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from experiment.flag.idle import EVALUATING
from experiment.flag.kinds import Switch
from experiment.flag.parser import FlagParser
from experiment.flag.row import Condition, Flag, Role
from experiment.flag.table import CHECK_DATA, cache_flag, experiment_flags
from util.data import DATASETS

EMBEDDED = ("Digits", "FakeData")  # need no files

PAPER = {
    "seed": 60,
    "arch": "resnet18",
    "dataset": "CIFAR10",
    "num_workers": 8,
    "T": 6,
    "train_batch_size": 128,
    "val_batch_size": 128,
    "num_epoch": 300,
    "lr": 0.1,
    "wd": 5e-4,
    "alp": 1.0,
    "beta": 0.3,
}


OWN_FLAGS = {
    "data": (cache_flag("downloads and unpacked archives are put"),),
    "augmentation": (
        Flag("auto_aug", Switch(), None, Role.DATA, idle=(EVALUATING,)).means(
            "AutoAugment; default: on for CIFAR, off for others"
        ),
        Flag("cutout", Switch(), None, Role.DATA, idle=(EVALUATING,)).means(
            "Cutout of 16 pixels; default: on for CIFAR, off for others"
        ),
    ),
    "check": (CHECK_DATA,),
}
NO_FILES = Condition(lambda args: args.dataset in EMBEDDED, "this --dataset needs no files")
FLAGS = experiment_flags(
    PAPER, DATASETS, OWN_FLAGS, silencing={NO_FILES: ("data_path", "cache_path")}
)


def get_parser() -> FlagParser:
    """Every flag of the experiment with its default."""
    return FlagParser("Train a spiking network on small images.", FLAGS)
