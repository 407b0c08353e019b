"""Random command lines for the campaign: what is drawn for each flag, right and wrong."""

from __future__ import annotations

import random
import shlex
from argparse import ArgumentTypeError
from collections.abc import Sequence

from experiment.cifar.config.config import FLAGS
from experiment.flag.kinds import FlagKind, Number, OneOf, Or, Switch
from experiment.flag.row import Flag

GOOD_SHARE = 0.25  # of the values drawn: about every tenth list is right and really trains

NUMBERS = ("0", "1", "2", " +3 ", "٣", "0.5", "+.25", "1.5", "1e-30", "-7")
NO_NUMBERS = ("", "nan", "inf", "-inf", "1e999", "0x10", "1,5", "abc", "--", "9" * 400)
# Values that keep a run small, sane and here, of flags whose kind allows more.
GOOD = {
    "dataset": ("FakeData", "Digits"),
    "data_path": (".", "~", "nowhere"),
    "cache_path": (".", "nowhere"),
    "device": ("cpu",),
    "dist_timeout": ("10", "0.5"),
    "num_epoch": ("1",),
    "image_size": ("8", "32"),
    "lr": ("0.1", "1e-3", "1e-320"),
    "warmup": ("0", "0.5", "1"),
    "wd": ("0", "5e-4"),
    "width": ("1", "3", "5"),
    "v_reset": ("none", "0", "-1", "soft"),
}
# More values, most of which the parser takes and a layer below refuses.
MORE = {
    "seed": ("4294967295", "1_000"),
    "accum": ("5",),  # does not divide the batch
    "arch": ("ResNet18",),
    "branch_pool": ("3000",),
    "T_min": ("99",),  # above --T
    "checkpoint_every": ("2147483647",),
    "dataset": ("cifar10", "CIFAR10", "MNIST"),  # the last two are not there
    "data_path": ("", " "),
    "device": ("tpu", "cuda:99", "mps", "cpu:x", "", "meta"),
    "label_noise": ("0.9991",),
    "train_per_class": ("1000",),  # more than there are
    "train_batch_size": ("7", "44", "100000"),
    "v_reset": ("1e9",),
    "val_batch_size": ("20", "100000"),
    "val_fraction": ("0.001",),
    "warmup": ("2", "1e30"),
}
PATHS = ("resume", "init", "evaluate", "log_path")  # their values hang on what is on the disk
LONG = "tune"  # compiles, and times every way for seconds
SWITCHES = [f.name for f in FLAGS if isinstance(f.kind, Switch) and f.name != LONG]
VALUED = [flag for flag in FLAGS if flag.name not in (*SWITCHES, *PATHS, LONG)]
STRAY = (
    *shlex.split("--unknown -x word --eval --T --no-T --lr= -- --help -h --auto_aug=yes"),
    *("", "\N{SNOWMAN}"),
)


def random_arguments(
    choose: random.Random, files: Sequence[str], log_paths: Sequence[str]
) -> list[str]:
    """Up to nine random flags.

    files: for --resume, --init and --evaluate; log_paths: for --log_path.
    """
    argv: list[str] = []
    for _ in range(choose.randint(1, 9)):
        kind = choose.random()
        if kind < 0.8:
            flag = choose.choice(VALUED)
            right, wrong = values_to_try(flag)
            pool = right if choose.random() < GOOD_SHARE else wrong
            argv += [f"--{flag.name}", choose.choice(pool or right)]
        elif kind < 0.87:
            argv += [choose.choice(("--", "--no-")) + choose.choice(SWITCHES)]
        elif kind < 0.92:
            argv += [choose.choice(("--resume", "--init", "--evaluate")), choose.choice(files)]
        elif kind < 0.94:
            argv += ["--resume", "auto"]
        elif kind < 0.96:
            argv += ["--log_path", choose.choice(log_paths)]
        else:
            argv += [choose.choice(STRAY)]
    return argv


def values_to_try(flag: Flag) -> tuple[list[str], list[str]]:
    """Texts that a flag takes, and texts that it refuses or that are refused below it."""
    kind = flag.kind
    number = kind.kind if isinstance(kind, Or) else kind
    texts = [*NUMBERS, *NO_NUMBERS]
    if isinstance(kind, OneOf):
        texts = [*kind.names, "", "no_such_name"]
    if isinstance(kind, Or):
        texts += [*kind.none, kind.word or ""]
    if isinstance(number, Number):
        texts += [str(number.low - 1), str(number.high * 2)]
    right = [text for text in texts if takes(kind, text)]
    wrong = [text for text in texts if text not in right]
    return list(GOOD.get(flag.name, right)), [*wrong, *MORE.get(flag.name, ())]


def takes(kind: FlagKind, text: str) -> bool:
    if isinstance(kind, OneOf):
        return text in kind.names
    try:
        kind(text)
    except ArgumentTypeError:
        return False
    return True
