"""The flags of experiment/cifar/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from pathlib import Path

from experiment.flag_parser import FlagParser
from experiment.options import add_cache_flag, add_check_flag, add_switch, make_parser
from util.data import DATASETS

EMBEDDED = ("Digits", "FakeData")  # need no files

PAPER = {
    "seed": 60,
    "arch": "resnet18",
    "dataset": "CIFAR10",
    "data_path": Path("data"),
    "log_path": Path("runs"),
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


def get_parser() -> FlagParser:
    """Every flag of the experiment with its default."""
    parser = make_parser(
        "Train a spiking network on small images.", DATASETS, PAPER, embedded=EMBEDDED
    )
    add_cache_flag(parser.add_argument_group("data"), "downloads and unpacked archives are put")
    group = parser.add_argument_group("augmentation")
    add_switch(group, "auto_aug", None, "AutoAugment; default: on for CIFAR, off for others")
    add_switch(group, "cutout", None, "Cutout of 16 pixels; default: on for CIFAR, off for others")
    add_switch(group, "gpu_aug", False,
        "augment whole batches on the training device (a CPU too), not image by image where they "
        "are loaded: other draws of the same distribution")  # fmt: skip
    add_check_flag(parser)
    return parser
