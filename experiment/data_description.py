"""What a checkpoint and an export say about the data that a network was trained on.

A network answers with a number; which class that is, and how its input is prepared, only the data
know. So they are described once, here, and the description travels with the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple

from experiment.flag.kinds import shortened
from util.data import ImageData
from util.image.imagenet import RESIZE_RATIO

if TYPE_CHECKING:
    from experiment.train.task import Data

LISTED = 10  # class names in a sentence


class DataDescription(NamedTuple):
    """A data set, as the networks that were trained on it have to know it.

    kind: "images" or "events"; class_names: in the order of the network's answers.
    training_samples, test_samples: how many, those held out for validation in neither.
    image_size: pixels, height = width; resize: pixels that the shorter side of an image is resized
    to before its centre is cut out.
    mean, std: of each channel, (pixel / 255 - mean) / std; None of events, whose counts are taken
    as such.
    sensor_size: height and width of the recordings of events; None of images, and where an earlier
    version did not say it.
    """

    name: str
    kind: str
    class_names: tuple[str, ...]
    training_samples: int
    test_samples: int
    channels: int
    image_size: int
    resize: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    sensor_size: tuple[int, int] | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def plain(self) -> dict[str, Any]:
        """Plain types, as JSON has them; without what is None."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in self._asdict().items()}
        return {k: v for k, v in values.items() if v is not None}


def describe_data(data: Data) -> DataDescription:
    images = isinstance(data, ImageData)
    return DataDescription(
        name=data.name,
        kind="images" if images else "events",
        class_names=tuple(data.class_names),
        training_samples=len(data.train),
        test_samples=len(data.test),
        channels=data.channels,
        image_size=data.image_size,
        resize=resized_side(data.name, data.image_size),
        mean=tuple(data.mean) if images else None,
        std=tuple(data.std) if images else None,
        sensor_size=None if images else tuple(data.sensor_size),
    )


def resized_side(data: str, image_size: int) -> int:
    """Pixels that the shorter side of an image is resized to before its centre is cut out."""
    return round(image_size * RESIZE_RATIO) if data == "imagenet" else image_size


def description_in(checkpoint: dict[str | int, Any]) -> DataDescription | None:
    """What a checkpoint says about its data; None in those of earlier versions.

    Raises: ValueError for an entry that says too little, or what it cannot be.
    """
    entry = checkpoint.get("data")
    if entry is None:
        return None
    try:
        values = {name: entry[name] for name in DataDescription._fields if name in entry}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        description = DataDescription(**values)
        sound = is_sound(description)
    except TypeError:  # of something missing, or no list where there should be one
        sound = False
    if not sound:
        raise ValueError("its description of the data is incomplete or damaged: name another one")
    return description


def is_sound(data: DataDescription) -> bool:
    """Whether the values can be those of data. Raises: TypeError where they are no lists."""
    counts = (data.training_samples, data.test_samples, data.channels)
    sizes = (data.image_size, data.resize)
    prepared = data.kind == "events" or len(data.mean) == len(data.std) == data.channels
    return (
        isinstance(data.class_names, tuple)
        and all(isinstance(text, str) for text in (data.name, *data.class_names))
        and all(type(number) is int and number > 0 for number in (*counts, *sizes))
        and data.kind in ("images", "events")
        and prepared
    )


def refuse_other_classes(
    saved: DataDescription | None, found: DataDescription, *, way_out: str = ""
) -> None:
    """ValueError that says how these data differ from those of a network in classes or channels.

    saved: what its file says; a file that says nothing is taken to know them.
    way_out: what else can be done than to name other data.
    """
    if saved is None:
        return
    advice = f"name the data that it was trained on with --data_path{way_out}"
    if saved.channels != found.channels:
        raise ValueError(
            f"it was trained on data of {saved.channels} channels and these have {found.channels} "
            f"(one picture in colour makes gray ones coloured): {advice}"
        )
    if saved.class_names == found.class_names:
        return
    known, there = saved.class_names, found.class_names
    pairs = enumerate(zip_longest(known, there))
    first, names = next((number, names) for number, names in pairs if names[0] != names[1])
    known_as, is_there = ("missing" if name is None else shortened(name) for name in names)
    raise ValueError(
        f"it was trained on {len(known)} classes ({listed(known)}) and the data have {len(there)} "
        f"({listed(there)}); class {first} is {known_as} to it and {is_there} in the data: {advice}"
    )


def other_samples(saved: DataDescription | None, found: DataDescription) -> str | None:
    """What it means for an accuracy that there are more or fewer samples than were `saved` with.

    None where there are as many, or where that is not known.
    """
    counts = [(data.training_samples, data.test_samples) for data in (saved or found, found)]
    before, now = (f"{train:,} training and {test:,} test samples" for train, test in counts)
    if before == now:
        return None
    return (
        f"it was saved with {before}, by now there are {now}: where the test set is drawn, samples "
        "that it was trained with may be among those it is tested on"
    )


def listed(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > LISTED else ""
    return ", ".join(map(shortened, names[:LISTED])) + more
