"""Train a spiking network on ImageNet, on one device or many.

    torchrun --nproc_per_node=8 experiment/imagenet/main.py --data_path FOLDER   (paper's recipe)
    python experiment/imagenet/main.py --data_path FOLDER --accum 8              (one device)
    python experiment/imagenet/main.py --dummy 4096 --num_epoch 1                (no files needed)

FOLDER holds train/CLASS/*.JPEG and val/CLASS/*.JPEG, which are read anew in each epoch; a set that
fits into memory is decoded once by experiment/cifar/main.py --dataset Folder. Several machines:
docs/scaling.md. Published for preact_resnet34 with seed 60: 70.70 % at the best test epoch, not
repeated here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.check_images import check_images, checking_images
from experiment.flag.values import in_effect, network_of, recipe_of, request_of, training_part_of
from experiment.flag.ways import ways_of
from experiment.imagenet.config.config import get_parser
from experiment.train.run import session, train
from experiment.train.tuning import tune
from util.data import ImageData
from util.image.imagenet import load_imagenet, make_random_data


def main(argv: Sequence[str] | None = None) -> dict:
    """Run `argv` (default: the process's own); returns the final metrics, or --check_data's counts.

    Raises: SystemExit with code 2 for wrong arguments or input, 1 for a run that failed.
    """
    args = get_parser().parse_args(argv)
    if args.check_data:
        with checking_images():
            return check_images(*data_of(args).samples, num_workers=args.num_workers)
    request, recipe = request_of(args), recipe_of(args)
    with session(request, recipe) as group:
        data = data_of(args)
        if in_effect(args, "tune"):
            return tune(ways_of(args, data), data, group)
        return train(request, recipe, data, network_of(args, data), group)


def data_of(args: argparse.Namespace) -> ImageData:
    if args.dummy is not None and not args.check_data:
        return make_random_data(args.dummy, image_size=args.image_size, seed=args.seed)
    return load_imagenet(
        args.data_path,
        image_size=args.image_size,
        crop=args.crop,
        flip=args.flip,
        auto_aug=args.imagenet_aug and args.auto_aug,
        cutout=args.imagenet_aug and args.cutout,
        reader=args.reader,
        seed=args.seed,
        validation_fraction=args.val_fraction,
        part=training_part_of(args),
    )


if __name__ == "__main__":
    main()
