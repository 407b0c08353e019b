"""The flags of experiment/imagenet/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from experiment.flag.experiment_flags import CHECK_DATA, experiment_flags
from experiment.flag.idle import EVALUATING
from experiment.flag.kinds import OneOf, OrAlone, Switch, Whole
from experiment.flag.row import Condition, Flag, Role
from experiment.flag.training_parser import TrainingParser
from util.image.files import READERS
from util.image.imagenet import TRAIN_IMAGES

DATASETS = ("imagenet",)

PAPER = {
    "seed": 60,
    "arch": "preact_resnet34",
    "dataset": "imagenet",
    "num_workers": 16,
    "T": 4,
    "train_batch_size": 512,
    "val_batch_size": 512,
    "num_epoch": 100,
    "lr": 0.2,
    "wd": 2e-5,
    "alp": 0.7,
    "beta": 0.3,
}


PLAIN = Condition(
    lambda args: not args.imagenet_aug and args.dummy is None,
    "as in the published ImageNet run, it is not applied; --imagenet_aug applies it",
)
NOTHING_TO_APPLY = Condition(
    lambda args: not (args.auto_aug or args.cutout),
    "it applies --auto_aug and --cutout, and neither is given",
)
NO_FILES = Condition(
    lambda args: args.dummy is not None and not args.check_data, "--dummy reads no files"
)
UNUSED = (NO_FILES, NOTHING_TO_APPLY, EVALUATING)
APPLIED = (NO_FILES, EVALUATING)
UNAPPLIED = (PLAIN, *APPLIED)

OWN_FLAGS = {
    "images": (
        Flag("image_size", Whole(16, 4096), 224, Role.DATA, "PIXELS").means(
            "side of the images that the network sees"
        ),
        Flag("reader", OneOf(READERS), "pil", Role.DATA, idle=(NO_FILES,)).means(
            "what decodes and crops the files; pil: as published; torchvision: faster, resizing "
            "rounds differently, by two grey levels at most"
        ),
        Flag("dummy", OrAlone(Whole(1), TRAIN_IMAGES), None, Role.DATA, "IMAGES").means(
            "train on so many random images in memory instead of files, to measure; without a "
            "number: as many as ImageNet has; default: read the files"
        ),
        Flag("crop", Switch(), True, Role.DATA, idle=APPLIED).means(
            "train on random parts of images, from 0.08 of their area up; off: on their centre, "
            "as they are tested"
        ),
        Flag("flip", Switch(), True, Role.DATA, idle=APPLIED).means("mirror images at random"),
        Flag("imagenet_aug", Switch(), False, Role.DATA, idle=UNUSED).means(
            "apply --auto_aug and --cutout, which the published run accepted and ignored"
        ),
        Flag("auto_aug", Switch(), False, Role.DATA, idle=UNAPPLIED).means(
            "AutoAugment's ImageNet policy, with --imagenet_aug"
        ),
        Flag("cutout", Switch(), False, Role.DATA, idle=UNAPPLIED).means(
            "Cutout of half the image's side, with --imagenet_aug"
        ),
    ),
    "check": (CHECK_DATA,),
}
CHOSEN_FILES = ("data_path", "val_fraction", "train_per_class", "label_noise")
FLAGS = experiment_flags(PAPER, DATASETS, OWN_FLAGS, silencing={NO_FILES: CHOSEN_FILES})


def get_parser() -> TrainingParser:
    """Every flag of the experiment with its default."""
    return TrainingParser("Train a spiking network on ImageNet.", FLAGS)
