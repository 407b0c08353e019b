"""Train a spiking network on CIFAR-10, CIFAR-100, other small images, or pictures of your own.

    python experiment/cifar/main.py --dataset CIFAR100 --data_path data     (the paper's recipe)
    python experiment/cifar/main.py --dataset Digits --width 8 --T 4 --num_epoch 10
    python experiment/cifar/main.py --dataset Folder --data_path FOLDER

FOLDER holds train/CLASS/* and test/CLASS/*, or CLASS/* alone (docs/data.md); pictures that do not
fit into memory are for experiment/imagenet/main.py. The first takes a GPU. Published for CIFAR-100
with seed 60: 80.20 % at the best test epoch, not repeated here; the README has what was measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch.utils.data import Dataset

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.check_images import check_images, checking_images
from experiment.cifar.config.config import get_parser
from experiment.flag.values import in_effect, network_of, recipe_of, request_of, training_part_of
from experiment.flag.ways import ways_of
from experiment.train.run import session, train
from experiment.train.tuning import tune
from util.data import FOLDER, ImageData, load_dataset
from util.image.picture_folder import PictureOptions, find_own_pictures


def main(argv: Sequence[str] | None = None) -> dict:
    """Run `argv` (default: the process's own); returns the final metrics, or --check_data's counts.

    Raises: SystemExit with code 2 for wrong arguments or input, 1 for a run that failed.
    """
    args = get_parser().parse_args(argv)
    if args.check_data:
        with checking_images():
            return check_images(*samples_of(args), num_workers=args.num_workers)
    request, recipe = request_of(args), recipe_of(args)
    with session(request, recipe) as group:
        data = data_of(args)
        if in_effect(args, "tune"):
            return tune(ways_of(args, data), data, group)
        return train(request, recipe, data, network_of(args, data), group)


def data_of(args: argparse.Namespace) -> ImageData:
    return load_dataset(
        args.dataset,
        args.data_path,
        cache_path=args.cache_path,
        pictures=pictures_of(args),
        crop=args.crop,
        flip=args.flip,
        auto_aug=args.auto_aug,
        cutout=args.cutout,
        seed=args.seed,
        validation_fraction=args.val_fraction,
        part=training_part_of(args),
        report=partial(print, file=sys.stderr),
    )


def pictures_of(args: argparse.Namespace) -> PictureOptions:
    """How the pictures of Folder are read."""
    channels = None if args.channels is None else int(args.channels)
    values = {name: getattr(args, name) for name in PictureOptions._fields}
    return PictureOptions(**{**values, "channels": channels})


def samples_of(args: argparse.Namespace) -> tuple[Sequence[Dataset], Sequence[Dataset]]:
    """The samples to train with and to test, those of Folder not yet read."""
    if args.dataset == FOLDER:
        found = find_own_pictures(args.data_path, pictures_of(args))
        return [found.train], [found.test]
    return data_of(args).samples


if __name__ == "__main__":
    main()
