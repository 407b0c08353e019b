"""Train a spiking network on CIFAR-10, CIFAR-100 or other small images.

    python experiment/cifar/main.py --dataset CIFAR100 --data_path data     (the paper's recipe)
    python experiment/cifar/main.py --dataset Digits --width 8 --T 4 --num_epoch 10

The first takes a GPU. Published for CIFAR-100 with seed 60: 80.20 % at the best test epoch, not
repeated here; the README has what was measured.
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
from experiment.cifar.config.config import get_parser
from experiment.data_description import DataDescription
from experiment.options import make_request, network_arguments, training_recipe
from experiment.run import run
from model import RateModel, build_model
from util.data import ImageData, load_dataset


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
    """The data set that the flags name."""
    return load_dataset(
        args.dataset,
        args.data_path,
        cache_path=args.cache_path,
        auto_aug=args.auto_aug,
        cutout=args.cutout,
        batch_aug=args.gpu_aug,
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
