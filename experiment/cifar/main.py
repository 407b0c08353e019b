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
from pathlib import Path

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.check_images import check_images, checking_images
from experiment.cifar.config.config import get_parser
from experiment.flag.values import network_of, recipe_of, request_of
from experiment.train.run import session, train
from util.data import ImageData, load_dataset


def main(argv: Sequence[str] | None = None) -> dict:
    """Run `argv` (default: the process's own); returns the final metrics, or --check_data's counts.

    Raises: SystemExit with code 2 for wrong arguments or input, 1 for a run that failed.
    """
    args = get_parser().parse_args(argv)
    if args.check_data:
        with checking_images():
            return check_images(data_of(args), num_workers=args.num_workers)
    request, recipe = request_of(args), recipe_of(args)
    with session(request, recipe) as group:
        data = data_of(args)
        return train(request, recipe, data, network_of(args, data), group)


def data_of(args: argparse.Namespace) -> ImageData:
    return load_dataset(
        args.dataset,
        args.data_path,
        cache_path=args.cache_path,
        auto_aug=args.auto_aug,
        cutout=args.cutout,
        seed=args.seed,
        validation_fraction=args.val_fraction,
    )


if __name__ == "__main__":
    main()
