"""Train a spiking network on CIFAR10-DVS or other recordings of event cameras.

    python experiment/dvs/main.py --data_path data                        (the paper's recipe)
    python experiment/dvs/main.py --dataset DigitsDVS --data_path data --width 8 --num_epoch 12 \\
        --train_batch_size 16 --optim Adam --lr 0.005 --branch_pool global --num_workers 0
    python experiment/dvs/main.py --dataset Recordings --data_path FOLDER      (FOLDER/CLASS/*.npz)

The first takes a GPU, and was not run here. The second makes its data in one minute and trains for
five on one CPU core: 92.8 %, one seed (control, --shuffle_frames: 95.6 %). The third takes
recordings of one's own (docs/data.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.dvs.config.config import get_parser
from experiment.dvs.event_data import EventData
from experiment.dvs.process import load_event_data
from experiment.dvs.recording.source import default_split
from experiment.flag.values import in_effect, network_of, recipe_of, request_of, training_part_of
from experiment.flag.ways import ways_of
from experiment.train.run import session, train
from experiment.train.tuning import tune


def main(argv: Sequence[str] | None = None) -> dict:
    """Run `argv` (default: the process's own); returns the final metrics.

    Raises: SystemExit with code 2 for wrong arguments or input, 1 for a run that failed.
    """
    args = get_parser().parse_args(argv)
    args.split = args.split or default_split(args.dataset, args.data_path)
    names = (args.split, "shuffled") if args.shuffle_frames else (args.split,)
    request, recipe = request_of(args, *names), recipe_of(args)
    with session(request, recipe) as group:
        data = data_of(args)
        if in_effect(args, "tune"):
            return tune(ways_of(args, data), data, group)
        return train(request, recipe, data, network_of(args, data), group)


def data_of(args: argparse.Namespace) -> EventData:
    return load_event_data(
        args.dataset,
        args.data_path,
        T=args.T,
        cache_path=args.cache_path,
        num_workers=args.num_workers,
        split=args.split,
        test_fraction=args.test_fraction,
        sensor=args.sensor,
        augment=args.event_aug,
        flip=args.flip,
        seed=args.seed,
        validation_fraction=args.val_fraction,
        part=training_part_of(args),
        shuffle_frames=args.shuffle_frames,
    )


if __name__ == "__main__":
    main()
