"""The flags of experiment/imagenet/main.py; the defaults are the paper's recipe, edit them here."""

from __future__ import annotations

from pathlib import Path

from experiment.flag_parser import FlagParser, Idle, add_switch, number
from experiment.options import add_check_flag, make_parser
from util.image_folder import READERS
from util.imagenet import TRAIN_IMAGES

DATASETS = ("imagenet",)

PAPER = {
    "seed": 60,
    "arch": "preact_resnet34",
    "dataset": "imagenet",
    "data_path": Path("data"),
    "log_path": Path("runs"),
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


def get_parser() -> FlagParser:
    """Every flag of the experiment with its default."""
    parser = make_parser("Train a spiking network on ImageNet.", DATASETS, PAPER)
    group = parser.add_argument_group("images")
    group.add_argument("--image_size", metavar="PIXELS", type=number(int, 16, 4096), default=224,
        help="side of the images that the network sees")  # fmt: skip
    group.add_argument("--reader", choices=list(READERS), default="pil",
        help="what decodes and crops the files; pil: as published; torchvision: faster, resizing "
        "rounds differently, by two grey levels at most")  # fmt: skip
    group.add_argument("--dummy", metavar="IMAGES", type=number(int, 1), nargs="?", default=None,
        const=TRAIN_IMAGES,
        help="train on so many random images in memory instead of files, to measure; without a "
        "number: as many as ImageNet has; default: read the files")  # fmt: skip
    add_switch(group, "imagenet_aug", False,
        "apply --auto_aug and --cutout, which the published run accepted and ignored")  # fmt: skip
    add_switch(group, "auto_aug", False, "AutoAugment's ImageNet policy, with --imagenet_aug")
    add_switch(group, "cutout", False,
        "Cutout of half the image's side, with --imagenet_aug")  # fmt: skip
    parser.idle += [
        Idle(
            lambda args: not args.imagenet_aug and args.dummy is None,
            ("auto_aug", "cutout"),
            "as in the published ImageNet run, images are cropped and flipped alone; "
            "--imagenet_aug applies the flags",
        ),
        Idle(
            lambda args: args.dummy is not None and not args.check_data,
            ("data_path", "reader", "imagenet_aug", "auto_aug", "cutout", "val_fraction"),
            "--dummy reads no files",
        ),
        Idle(
            lambda args: not (args.auto_aug or args.cutout),
            ("imagenet_aug",),
            "it applies --auto_aug and --cutout, and neither is given",
        ),
        Idle(
            lambda args: args.evaluate is not None, ("imagenet_aug",), "--evaluate trains nothing"
        ),
    ]
    add_check_flag(parser)
    return parser
