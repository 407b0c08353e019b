"""The flags of experiment/dvs/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from experiment.dvs.recording.events import LARGEST_SIDE
from experiment.dvs.recording.source import DATASETS, SOURCES, SPLITS, default_split
from experiment.dvs.split import STRATIFIED, TEST_FRACTION
from experiment.flag.experiment_flags import cache_flag, experiment_flags
from experiment.flag.idle import EVALUATING
from experiment.flag.kinds import OneOf, Pixels, Real, Switch
from experiment.flag.row import Condition, Flag, Role
from experiment.flag.training_parser import TrainingParser

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


SENSOR_KNOWN = Condition(
    lambda args: not SOURCES[args.dataset].is_own, "the sensor of this --dataset is known"
)
NOTHING_DRAWN = Condition(
    lambda args: (args.split or default_split(args.dataset, args.data_path)) != STRATIFIED,
    "no test set is drawn from these data",
)
NOT_AUGMENTED = Condition(
    lambda args: not args.event_aug, "--no-event_aug leaves samples as they are"
)

SHARE = Real(0, 1, open_low=True)
TEST_SHARE = Flag(
    "test_fraction", SHARE, TEST_FRACTION, Role.DATA, "FRACTION", (NOTHING_DRAWN,)
).means("part of each class that is the test set of a stratified split")
SENSOR = Flag(
    "sensor", Pixels(LARGEST_SIDE), None, Role.DATA, "WIDTHxHEIGHT", (SENSOR_KNOWN,)
).means(
    "pixels of the sensor of one's own recordings; default: as their files say, or else as far as "
    "their events reach"
)
OWN_FLAGS = {
    "events": (
        Flag("split", OneOf(SPLITS), None, Role.DATA).means(
            "training and test set; CIFAR10_DVS has two, whose accuracies must not be compared: "
            "published (default) and tebn; the other data sets have one each, Recordings given "
            "if they lie in train/ and test/ and else stratified"
        ),
        TEST_SHARE,
        SENSOR,
        cache_flag("frames (and simulated or unpacked recordings) are put"),
        Flag("event_aug", Switch(), True, Role.DATA, idle=(EVALUATING,)).means(
            "mirror, and roll, rotate or cut out, whole samples"
        ),
        Flag("flip", Switch(), None, Role.DATA, idle=(EVALUATING, NOT_AUGMENTED)).means(
            "mirror samples; default: on for CIFAR10_DVS, off for others"
        ),
        Flag("shuffle_frames", Switch(), False, Role.DATA).means(
            "put each sample's frames in a random order: a control for what it is worth"
        ),
    )
}
FLAGS = experiment_flags(PAPER, DATASETS, OWN_FLAGS)


def get_parser() -> TrainingParser:
    """Every flag of the experiment with its default."""
    return TrainingParser("Train a spiking network on event data.", FLAGS)
