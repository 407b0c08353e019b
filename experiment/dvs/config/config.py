"""The flags of experiment/dvs/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from pathlib import Path

from experiment.dvs.source import DATASETS, SPLITS
from experiment.flag_parser import FlagParser, add_switch
from experiment.options import add_cache_flag, make_parser

PAPER = {
    "seed": 60,
    "arch": "resnet18",
    "dataset": "CIFAR10_DVS",
    "data_path": Path("data"),
    "log_path": Path("runs"),
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


def get_parser() -> FlagParser:
    """Every flag of the experiment with its default."""
    parser = make_parser("Train a spiking network on event data.", DATASETS, PAPER)
    group = parser.add_argument_group("events")
    group.add_argument("--split", choices=SPLITS, default=None,
        help="training and test set; CIFAR10_DVS has two, whose accuracies must not be compared: "
        "published (default) and tebn; the other data sets have one each")  # fmt: skip
    add_cache_flag(group, "frames (and simulated or unpacked recordings) are put")
    add_switch(group, "event_aug", True, "mirror, and roll, rotate or cut out, whole samples")
    add_switch(group, "shuffle_frames", False,
        "put each sample's frames in a random order: a control for what it is worth")  # fmt: skip
    return parser
