"""The event data sets by name: what they consist of and how they are used."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from experiment.dvs.split import FIRST_TENTH, GIVEN, RANDOM_TENTH, STRATIFIED

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
DIGITS = tuple("0123456789")
GESTURES = tuple(str(number) for number in range(11))
# In the order of Fashion-MNIST's labels; here, as of any data set, folders count by alphabet.
FASHION = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
FASHION_IMAGES = {"train": 400, "test": 100}  # of each class, of 6,000 and 1,000


class Source(NamedTuple):
    """One row of the table; T frames of a sample are made from each recording.

    `groups` are the folders of recordings below the data set's: one per class, or one per class
    in train/ and in test/ where the data set's authors split it.
    """

    spikingjelly_class: str  # its data set, or one of the same format and sensor
    groups: tuple[str, ...]
    samples: int  # recordings in all groups
    splits: tuple[str, ...]  # that make sense here; the first is the default
    flip: bool  # whether a mirrored sample belongs to the same class
    simulated: bool = False  # made here from pictures, by experiment.dvs.simulated

    @property
    def has_parts(self) -> bool:
        """Whether the data set comes split into training and test set."""
        return self.splits == (GIVEN,)


def _parts(classes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{part}/{name}" for part in ("train", "test") for name in classes)


SOURCES = {
    "CIFAR10_DVS": Source(
        "CIFAR10DVS", CIFAR10_CLASSES, 10_000, (RANDOM_TENTH, FIRST_TENTH), flip=True
    ),
    "DigitsDVS": Source("CIFAR10DVS", DIGITS, 1_797, (STRATIFIED,), flip=False, simulated=True),
    "FashionDVS": Source(
        "DVS128Gesture",
        _parts(FASHION),
        10 * sum(FASHION_IMAGES.values()),
        (GIVEN,),
        flip=True,
        simulated=True,
    ),
    "NMNIST": Source("NMNIST", _parts(DIGITS), 70_000, (GIVEN,), flip=False),
    "DVS128Gesture": Source("DVS128Gesture", _parts(GESTURES), 1_464, (GIVEN,), flip=False),
}
DATASETS = tuple(SOURCES)
SPLITS = (RANDOM_TENTH, FIRST_TENTH, STRATIFIED, GIVEN)


def class_names(source: Source) -> tuple[str, ...]:
    """The names of the classes, in the order of their labels."""
    return tuple(sorted({Path(group).name for group in source.groups}))


def source_folder(name: str, data_path: Path) -> Path:
    """Where the data set lies: `data_path`/`name` if that is a folder, otherwise `data_path`.

    Simulated data sets always have a folder of that name.
    """
    nested = data_path / name
    if SOURCES[name].simulated:
        return data_path if data_path.name == name else nested
    return nested if nested.is_dir() else data_path


def frames_folder(folder: Path, T: int) -> Path:
    """Where spikingjelly's classes look for the frames of `folder`."""
    return folder / f"frames_number_{T}_split_by_number"


def sensor_size(source: Source) -> tuple[int, int]:
    """Height and width in pixels of the sensor that recorded the data set."""
    return dataset_class(source).get_H_W()


def dataset_class(source: Source) -> type:
    """spikingjelly's class."""
    from spikingjelly import datasets

    return getattr(datasets, source.spikingjelly_class)
