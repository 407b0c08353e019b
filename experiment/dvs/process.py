"""Event data sets, ready for training; as a command, it makes and checks the frames.

    python experiment/dvs/process.py --data_path data --T 10
    python experiment/dvs/process.py --data_path data --dataset DigitsDVS --picture digits.png
    python experiment/dvs/process.py --data_path FOLDER --dataset Recordings

The first looks for CIFAR10-DVS (its ten archives, or folders of .aedat files) in data/CIFAR10_DVS
or data, says what is missing and where to get it, and integrates the recordings to T frames each.
It can be interrupted and started again. The ten archives take about five minutes on one CPU core
(30 ms for a recording of 200,000 events), and the frames 0.8 GB. The second simulates its
recordings (experiment/dvs/recording/simulation.py). The third takes one's own, a folder per class
(docs/data.md). What is made goes beside the recordings, or to another folder with --cache_path. At
the end every file of frames is read once, and those that are bad are listed.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch.nn import Identity

if __package__ in (None, ""):  # started as a file: make the project's packages importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from experiment.bad_samples import find_bad_samples
from experiment.dvs.augment import training_transform
from experiment.dvs.config.config import SENSOR, TEST_SHARE
from experiment.dvs.event_data import EventData, draw_event_frames
from experiment.dvs.frames import EventFrames, list_samples
from experiment.dvs.prepare import prepare
from experiment.dvs.recording.own import find_own
from experiment.dvs.recording.sensor import with_sensor
from experiment.dvs.recording.source import DATASETS, SOURCES, DataSource, Store, locate
from experiment.dvs.split import STRATIFIED, TEST_FRACTION, train_and_test
from experiment.flag.experiment_flags import cache_flag
from experiment.flag.kinds import Whole, expanded_path
from experiment.flag.parser import FlagParser
from experiment.packages import refuse_missing
from experiment.train.failure import leave, one_sentence_errors, sentence_of
from util.figure import import_matplotlib
from util.file.named_folder import folder_problem
from util.process.loader import AugmentedDataset
from util.stratify import refuse_small_classes, stratified_split
from util.training_part import WHOLE, TrainingPart


def load_event_data(
    name: str,
    data_path: str | Path,
    *,
    T: int,
    cache_path: str | Path | None = None,
    num_workers: int = 0,
    split: str | None = None,
    test_fraction: float = TEST_FRACTION,
    sensor: str | None = None,
    augment: bool = True,
    flip: bool | None = None,
    seed: int = 0,
    validation_fraction: float | None = None,
    part: TrainingPart = WHOLE,
    shuffle_frames: bool = False,
) -> EventData:
    """The data set `name` (one of DATASETS) from the folder `data_path`, T frames per sample.

    Frames that are not there yet for this T are made first, which takes minutes, by `num_workers`
    processes (0: this one), in `cache_path`/NAME if that is given and else beside the recordings.
    `split`, `test_fraction`: see experiment.dvs.split; None is the data set's own first. `sensor`:
    "WIDTHxHEIGHT" of one's own recordings; None is what they say. `flip`: whether training samples
    are mirrored; None is the data set's own. `seed` decides the augmentation.
    `validation_fraction` (between 0 and 1) of the training set is held out, see `stratified_split`,
    and `part` of the rest is trained on.
    `shuffle_frames` puts the frames of each sample in a random order, in training and test alike:
    a control that shows what the order of the events is worth.

    Raises FileNotFoundError for missing data and ValueError for damaged data or a wrong argument,
    ModuleNotFoundError for a missing package, ValueError for one that cannot be loaded.
    """
    if T < 1:
        raise ValueError(f"T = {T}: expected at least 1 frame")
    store = _find(name, data_path, cache_path)
    split = store.source.splits[0] if split is None else split
    if split not in store.source.splits:
        choice = ", ".join(store.source.splits)
        raise ValueError(f"split {split!r} of {name}: choose from {choice}")
    drawn = split == STRATIFIED or validation_fraction is not None
    refuse_missing("spikingjelly", *(["sklearn"] if drawn else []))
    import_matplotlib()  # spikingjelly does
    if store.source.is_own:
        store = with_sensor(store, T, sensor, num_workers=num_workers, report=_report)
    frames, source = prepare(store, T=T, num_workers=num_workers, report=_report), store.source
    train, test = _open(source, split, frames, test_fraction, T=T, shuffle=shuffle_frames)
    validation = None
    if validation_fraction is not None:
        parts = stratified_split(np.array(train.labels), validation_fraction)
        train, validation = (
            replace(train, indices=[train.indices[i] for i in side]) for side in parts
        )
    chosen, notes = part.of(train, train.labels, source.class_names)
    flip = source.flip if flip is None else flip
    transform = training_transform(flip=flip) if augment else Identity()
    return EventData(
        name=name,
        split=split,
        T=T,
        train=AugmentedDataset(chosen, transform, seed=seed),
        validation=validation,
        test=test,
        class_names=source.class_names,
        sensor_size=source.sensor_size,
        flip=augment and flip,
        notes=notes,
    )


def _find(name: str, data_path: str | Path, cache_path: str | Path | None) -> Store:
    """Where a data set lies, and which recordings there are of one's own."""
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}: choose from {', '.join(DATASETS)}")
    cache_path = None if cache_path is None else Path(cache_path).expanduser()
    store = locate(name, Path(data_path).expanduser(), cache_path)
    return find_own(store) if store.source.is_own else store


def _open(
    source: DataSource, split: str, frames: Path, test_fraction: float, *, T: int, shuffle: bool
) -> tuple[EventFrames, EventFrames]:
    """Training and test samples of a data set whose frames are ready."""
    if source.has_parts:
        parts = [list_samples(frames / part, source.class_names) for part in ("train", "test")]
        chosen = [range(len(part)) for part in parts]
    else:
        parts = [list_samples(frames, source.class_names)] * 2
        if split == STRATIFIED:
            labels = [label for _, label in parts[0]]
            refuse_small_classes(labels, source.class_names, test_fraction, "recordings")
        chosen = train_and_test(split, parts[0], test_fraction)
    train, test = (
        EventFrames(part, indices, T, source.sensor_size, shuffle)
        for part, indices in zip(parts, chosen, strict=True)
    )
    return train, test


def _report(line: str) -> None:
    print(line, file=sys.stderr)


def get_parser() -> FlagParser:
    parser = FlagParser("Check an event data set, and make the frames that training needs.")
    add, paths = parser.add_argument, {"metavar": "FOLDER", "type": expanded_path}
    add("--dataset", choices=DATASETS, default="CIFAR10_DVS", help="data set")
    text = "the data set's folder, or one that holds a folder of its name"
    # Suppressed, for else the help says "default: None".
    add("--data_path", required=True, default=argparse.SUPPRESS, help=text, **paths)
    add("--T", metavar="STEPS", type=Whole(1), default=10, help="frames per sample")
    SENSOR.add_to(parser)
    TEST_SHARE.add_to(parser)
    cache_flag("frames (and simulated or unpacked recordings) are put").add_to(parser)
    text = "processes that make and check frames; 0: this one alone; default: one for each core"
    cores, whole = len(os.sched_getaffinity(0)), Whole(0, 1024)
    add("--num_workers", metavar="PROCESSES", type=whole, default=cores, help=text)
    text = "draw the frames of a sample of each class into this PNG file; default: no picture"
    add("--picture", metavar="FILE", type=expanded_path, default=None, help=text)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line `argv` (default: the process's own).

    Raises: SystemExit with code 2 for wrong arguments, a missing package, and missing or damaged
    data, 1 for a disk that cannot be written, 130 after an interruption.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.picture is not None:
        _refuse_wrong_picture(parser, args.picture)
    with one_sentence_errors(
        {}, less_memory="try a smaller --T", interrupted="interrupted; start again to go on"
    ):
        try:
            data = load_event_data(
                args.dataset,
                args.data_path,
                T=args.T,
                cache_path=args.cache_path,
                num_workers=args.num_workers,
                sensor=args.sensor,
                test_fraction=args.test_fraction,
            )
            _refuse_bad_files([data.train.source, data.test], args.num_workers)
            if args.picture is not None:
                draw_event_frames(data, args.picture)
        except (ValueError, FileNotFoundError) as error:
            leave(f"error: {error}", 2)  # a line for each damaged file
        except OSError as error:
            unreadable = isinstance(error, PermissionError)
            leave(f"error: {sentence_of(error, {})}", 2 if unreadable else 1)
    print(
        f"{data.name} is ready: {data.T} frames per sample, split {data.split}: "
        f"{len(data.train):,} training and {len(data.test):,} test samples"
    )
    if args.picture is not None:
        print(f"written: {args.picture}")


def _refuse_bad_files(parts: list[EventFrames], num_workers: int) -> None:
    """ValueError with a line for each file of frames that is bad, after reading all of them."""
    bad = find_bad_samples(parts, EventFrames.problem, num_workers=num_workers, report=_report)
    if bad:
        advice = "delete them and start again: they are made anew from the recordings"
        raise ValueError("\n  ".join([f"{len(bad)} files of frames are damaged; {advice}:", *bad]))


def _refuse_wrong_picture(parser: FlagParser, path: Path) -> None:
    """End the program if no picture can be written there."""
    folder = path.absolute().parent
    if path.is_dir():
        parser.error(f"argument --picture: {path} is a folder: name a PNG file")
    if not folder.is_dir():
        parser.error(f"argument --picture: there is no folder {folder}")
    problem = folder_problem(folder)
    if problem is not None:
        parser.error(f"argument --picture: {problem}")


if __name__ == "__main__":
    main()
