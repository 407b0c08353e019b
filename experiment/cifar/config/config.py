"""The flags of experiment/cifar/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from experiment.flag.experiment_flags import CHECK_DATA, cache_flag, experiment_flags
from experiment.flag.idle import EVALUATING
from experiment.flag.kinds import OneOf, Real, Switch, Whole
from experiment.flag.row import Condition, Flag, Role
from experiment.flag.training_parser import TrainingParser
from util.data import DATASETS, FOLDER
from util.image.picture_folder import PictureOptions, second_part

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


NO_FILES = Condition(lambda args: args.dataset in EMBEDDED, "this --dataset needs no files")
READY_MADE = Condition(
    lambda args: args.dataset != FOLDER, "it is for pictures of your own (--dataset Folder)"
)
IN_TWO_PARTS = Condition(
    lambda args: args.dataset == FOLDER and second_part(args.data_path) is not None,
    "the pictures are in two parts already",
)
READ = (READY_MADE,)
SPLIT = (READY_MADE, IN_TWO_PARTS)
APPLIED = (EVALUATING,)
PICTURES = PictureOptions()

OWN_FLAGS = {
    "data": (
        cache_flag("downloads, unpacked archives and decoded pictures are put"),
        Flag("image_size", Whole(8, 4096), PICTURES.image_size, Role.DATA, "PIXELS", READ).means(
            "side of the square that the network sees of a picture: its shorter side is resized "
            "to it, and the centre cut out"
        ),
        Flag("channels", OneOf(("1", "3")), None, Role.DATA, idle=READ).means(
            "1: pictures are read as gray, 3: in colour; default: 1 if all of them are gray, else 3"
        ),
        Flag(
            "test_fraction",
            Real(0, 1, open_low=True),
            PICTURES.test_fraction,
            Role.DATA,
            "FRACTION",
            SPLIT,
        ).means(
            "part of each class that is for the test, of pictures in one tree of class folders"
        ),
        Flag("split_seed", Whole(0, 2**32 - 1), PICTURES.split_seed, Role.DATA, idle=SPLIT).means(
            "seed that draws these; runs of any --seed are compared on the same test pictures"
        ),
    ),
    "augmentation": (
        Flag("crop", Switch(), None, Role.DATA, idle=APPLIED).means(
            "shift images at random, by up to 4 of 32 pixels, 2 of Digits and the MNISTs; "
            "default: on"
        ),
        Flag("flip", Switch(), None, Role.DATA, idle=APPLIED).means(
            "mirror images at random; default: off for Digits and MNIST, on for others"
        ),
        Flag("auto_aug", Switch(), None, Role.DATA, idle=APPLIED).means(
            "AutoAugment; default: on for CIFAR, off for others"
        ),
        Flag("cutout", Switch(), None, Role.DATA, idle=APPLIED).means(
            "Cutout of 16 pixels, of Folder half the image's side; default: on for CIFAR, off for "
            "others"
        ),
    ),
    "check": (CHECK_DATA,),
}
FLAGS = experiment_flags(
    PAPER, DATASETS, OWN_FLAGS, silencing={NO_FILES: ("data_path", "cache_path")}
)


def get_parser() -> TrainingParser:
    """Every flag of the experiment with its default."""
    return TrainingParser("Train a spiking network on small images.", FLAGS)
