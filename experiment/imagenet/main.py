"""Train a spiking network on ImageNet, on one device or many.

    torchrun --nproc_per_node=8 experiment/imagenet/main.py --data_path FOLDER   (paper's recipe)
    python experiment/imagenet/main.py --data_path FOLDER --accum 8              (one device)
    python experiment/imagenet/main.py --dummy 4096 --num_epoch 1                (no files needed)

FOLDER holds train/CLASS/*.JPEG and val/CLASS/*.JPEG. Several machines, SLURM and what to expect of
them: docs/scaling.md. Published for preact_resnet34 with seed 60: 70.70 % at the best test epoch,
not repeated here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.check_images import check_images
from experiment.data_description import DataDescription
from experiment.imagenet.config.config import get_parser
from experiment.options import make_request, network_arguments, training_recipe
from experiment.run import run
from model import RateModel, build_model
from util.data import ImageData
from util.imagenet import load_imagenet, make_random_data


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line `argv` (default: the process's own); returns the final metrics,
    or how many images are readable (--check_data).

    Raises: SystemExit with code 2 for wrong arguments or input, 1 for a run that failed.
    """
    args = get_parser().parse_args(argv)
    if args.check_data:
        return check_images(partial(data_of, args), num_workers=args.num_workers)
    return run(
        make_request(args), training_recipe(args), partial(data_of, args), partial(network_of, args)
    )


def data_of(args: argparse.Namespace) -> ImageData:
    """The images that the flags name."""
    if args.dummy is not None and not args.check_data:
        return make_random_data(args.dummy, image_size=args.image_size, seed=args.seed)
    return load_imagenet(
        args.data_path,
        image_size=args.image_size,
        auto_aug=args.imagenet_aug and args.auto_aug,
        cutout=args.imagenet_aug and args.cutout,
        reader=args.reader,
        seed=args.seed,
        validation_fraction=args.val_fraction,
    )


def network_of(args: argparse.Namespace, data: ImageData | DataDescription) -> RateModel:
    """The network that the flags name, for data with these classes and channels."""
    return build_model(
        **network_arguments(args), num_classes=len(data.class_names), in_channels=data.channels
    )


if __name__ == "__main__":
    main()
