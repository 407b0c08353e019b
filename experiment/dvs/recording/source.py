"""The event data sets by name: what they consist of, how they are used, and where one lies."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from experiment.dvs.split import FIRST_TENTH, GIVEN, RANDOM_TENTH, STRATIFIED
from experiment.packages import loading

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
DIGITS = tuple("0123456789")
GESTURES = tuple(str(number) for number in range(11))
PARTS = ("train", "test")


class DataSource(NamedTuple):
    """One row of the table; T frames of a sample are made from each recording.

    `groups` are the folders of recordings below the data set's: one per class, or one per class
    in train/ and in test/ where the data set's authors split it. Of one's own recordings all is
    found in their folder, by experiment.dvs.recording.own.
    """

    name: str
    spikingjelly_class: str | None  # its data set, or one of the same format and sensor
    groups: tuple[str, ...]
    samples: int  # recordings in all groups
    splits: tuple[str, ...]  # that make sense here; the first is the default
    flip: bool = False  # whether a mirrored sample belongs to the same class
    simulated: bool = False  # made here from pictures, by experiment.dvs.recording.simulation
    unpacked: tuple[str, ...] = ()  # folders in the archives that are no groups
    files: dict[str, list[int]] | None = None  # one's own: bytes and time of change, by path
    sensor: tuple[int, int] | None = None  # of one's own

    @property
    def is_own(self) -> bool:
        """Whether these are anybody's own recordings, no published data set."""
        return self.spikingjelly_class is None

    @property
    def has_parts(self) -> bool:
        """Whether the data set comes split into training and test set."""
        return self.splits == (GIVEN,)

    @property
    def is_extracted(self) -> bool:
        """Whether event arrays are made of what its authors published, before frames are."""
        return self.has_parts and not self.is_own

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels, which is that of the alphabet."""
        return tuple(sorted({Path(group).name for group in self.groups}))

    @property
    def dataset_class(self) -> type:
        return getattr(spikingjelly_datasets(), self.spikingjelly_class)

    @property
    def sensor_size(self) -> tuple[int, int]:
        """Height and width in pixels of the sensor that recorded the data set."""
        return self.sensor if self.is_own else self.dataset_class.get_H_W()

    @property
    def archives(self) -> dict[str, tuple[str, str]]:
        """Address and md5 sum of each published archive, by name; none of what is not published.

        The files beside them, such as a licence, hold no recordings.
        """
        if self.simulated or self.is_own:
            return {}
        listed = self.dataset_class.resource_url_md5()
        return {name: (url, md5) for name, url, md5 in listed if name.endswith((".zip", ".gz"))}


def _parts(classes: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{part}/{name}" for part in PARTS for name in classes)


CIFAR_SPLITS = (RANDOM_TENTH, FIRST_TENTH)
NMNIST_GROUPS, GESTURE_GROUPS = _parts(DIGITS), _parts(GESTURES)
ROWS = (
    DataSource("CIFAR10_DVS", "CIFAR10DVS", CIFAR10_CLASSES, 10_000, CIFAR_SPLITS, flip=True),
    DataSource("DigitsDVS", "CIFAR10DVS", DIGITS, 1_797, (STRATIFIED,), simulated=True),
    DataSource("NMNIST", "NMNIST", NMNIST_GROUPS, 70_000, (GIVEN,), unpacked=("Train", "Test")),
    DataSource(
        "DVS128Gesture", "DVS128Gesture", GESTURE_GROUPS, 1_464, (GIVEN,), unpacked=("DvsGesture",)
    ),
    DataSource("Recordings", None, (), 0, (STRATIFIED, GIVEN)),
)
SOURCES = {source.name: source for source in ROWS}
DATASETS = tuple(SOURCES)
SPLITS = (RANDOM_TENTH, FIRST_TENTH, STRATIFIED, GIVEN)


class Store(NamedTuple):
    """A data set on the disk: recordings lie in `folder`, what is made of them goes to `cache`.

    The two may be one; what was made before is found in either.
    """

    source: DataSource
    folder: Path
    cache: Path


def locate(name: str, data_path: Path, cache_path: Path | None = None) -> Store:
    """Where the data set lies: `data_path`/`name` if that is a folder, otherwise `data_path`.

    Simulated data sets always have a folder of that name, one's own recordings never. The cache is
    `cache_path`/`name`, or the data set's folder.
    """
    source, folder = SOURCES[name], data_path / name
    given_itself = data_path.name == name if source.simulated else not folder.is_dir()
    if given_itself or source.is_own:
        folder = data_path
    return Store(source, folder, folder if cache_path is None else cache_path / name)


def default_split(name: str, data_path: Path) -> str:
    """The split of a data set where no other is asked for."""
    source = SOURCES[name]
    return GIVEN if source.is_own and lies_in_parts(data_path.expanduser()) else source.splits[0]


def lies_in_parts(folder: Path) -> bool:
    """Whether a folder of one's own recordings is split, as by the authors of a data set."""
    return all((folder / part).is_dir() for part in PARTS)


def frames_folder(folder: Path, T: int) -> Path:
    """Where spikingjelly's classes look for the frames of `folder`."""
    return folder / f"frames_number_{T}_split_by_number"


def spikingjelly_datasets() -> ModuleType:
    """Its classes, which take seconds to import. Raises: ValueError if they cannot be loaded."""
    with loading("spikingjelly"):
        from spikingjelly import datasets
    return datasets
