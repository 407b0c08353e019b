"""Train a spiking network on CIFAR10-DVS or other recordings of event cameras.

    python experiment/dvs/main.py --data_path data                        (the paper's recipe)
    python experiment/dvs/main.py --dataset DigitsDVS --data_path data --width 8 --num_epoch 12 \\
        --train_batch_size 16 --optim Adam --lr 0.005 --branch_pool global --num_workers 0

The first takes a GPU and CIFAR10-DVS (experiment/dvs/process.py says where to get it); it was not
run here. The second makes its data, digits in front of a simulated sensor, in one minute, and
trains for five on one CPU core: 92.8 % after the last epoch, one seed. The control
--shuffle_frames reaches 95.6 %: it is not the order of the frames that the network learns from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.data_description import DataDescription
from experiment.dvs.config.config import get_parser
from experiment.dvs.event_data import EventData
from experiment.dvs.picture import draw_event_frames
from experiment.dvs.process import load_event_data
from experiment.dvs.source import SOURCES
from experiment.options import make_request, network_arguments, training_recipe
from experiment.run import run
from model import RateModel, build_model


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the command line `argv` (default: the process's own); returns the final metrics.

    Raises: SystemExit with code 2 for wrong arguments or input, 1 for a run that failed.
    """
    args = get_parser().parse_args(argv)
    args.split = args.split or SOURCES[args.dataset].splits[0]
    request = make_request(args)
    order = "_shuffled" if args.shuffle_frames else ""
    request = replace(request, run_name=f"{request.run_name}_{args.split}{order}")
    return run(
        request,
        training_recipe(args),
        partial(data_of, args),
        partial(network_of, args),
        on_start=lambda folder, data: draw_event_frames(data, folder / "event_frames.png"),
    )


def data_of(args: argparse.Namespace) -> EventData:
    """The data set that the flags name."""
    return load_event_data(
        args.dataset,
        args.data_path,
        T=args.T,
        cache_path=args.cache_path,
        num_workers=args.num_workers,
        split=args.split,
        augment=args.event_aug,
        seed=args.seed,
        validation_fraction=args.val_fraction,
        shuffle_frames=args.shuffle_frames,
    )


def network_of(args: argparse.Namespace, data: EventData | DataDescription) -> RateModel:
    """The network that the flags name, for data with these classes and channels."""
    return build_model(
        **network_arguments(args), num_classes=data.num_classes, in_channels=data.channels
    )


if __name__ == "__main__":
    main()
