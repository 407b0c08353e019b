"""The simulated data sets: pictures that experiment.dvs.simulate shows to its event camera.

DigitsDVS    scikit-learn's 1,797 handwritten digits
FashionDVS   the first images of each class in Fashion-MNIST's training and test files, as many as
             experiment.dvs.source.FASHION_IMAGES says; each part stays what it is

All recordings are made with one sensor (SENSOR_SEED) and written as CIFAR10-DVS is published, an
archive of .aedat files per class, so that everything behind them is what CIFAR10-DVS goes through.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from experiment.countdown import Countdown
from experiment.dvs.events import encode_aedat
from experiment.dvs.simulate import LOOP_TIME, Sensor, log_intensity, sensor_events
from experiment.dvs.source import FASHION, FASHION_IMAGES, SOURCES
from util.atomic_file import write_atomically
from util.dataset import Images, read_mnist_family

SENSOR_SEED = 0

# By group and by name of the recording; square, values 0 to 1.
Pictures = dict[str, dict[str, np.ndarray]]


def write_recordings(
    name: str,
    folder: Path,
    report: Callable[[str], None] = lambda line: None,
    *,
    cache: Path | None = None,
) -> None:
    """Write `cache`/download/GROUP.zip for every group of data set `name` that has none.

    It may be there or in `folder`, the default of `cache`. An archive depends on nothing but its
    pictures, so an interrupted call can be repeated. The pictures are looked for beside `folder`
    and beside `cache`, once they are needed.

    Raises: FileNotFoundError for missing pictures, ValueError for damaged or too few ones.
    """
    cache = cache or folder
    missing = [
        group
        for group in SOURCES[name].groups
        if not any((place / "download" / f"{group}.zip").exists() for place in (folder, cache))
    ]
    if not missing:
        return
    pictures = PICTURES[name](folder.parent, cache.parent)
    sensor = Sensor.sample(seed=SENSOR_SEED)
    total = sum(len(pictures[group]) for group in missing)
    countdown = Countdown("simulating the sensor", total, report)
    for group in missing:
        content = io.BytesIO()
        with ZipFile(content, "w") as archive:
            for recording, picture in pictures[group].items():
                scene = log_intensity(picture)
                events = sensor_events(scene, np.linspace(0, LOOP_TIME, len(scene)), sensor)
                member = ZipInfo(f"{Path(group).name}/{recording}.aedat")
                archive.writestr(member, encode_aedat(events), ZIP_DEFLATED, compresslevel=1)
                countdown.advance()
        path = cache / "download" / f"{group}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getbuffer())
    countdown.close()


def digits(data_path: Path, cache_path: Path) -> Pictures:
    """All of scikit-learn's digits; a recording is named by class and position in the data set."""
    from sklearn.datasets import load_digits

    data = load_digits()
    return {
        str(digit): {
            f"digits_{digit}_{index}": data.images[index] / 16
            for index in np.flatnonzero(data.target == digit)
        }
        for digit in range(10)
    }


def fashion(data_path: Path, cache_path: Path) -> Pictures:
    """The first images of each class; a recording is named by part and position in its file.

    Raises: FileNotFoundError if Fashion-MNIST is not in `data_path`, not on this system and cannot
    be downloaded into `cache_path`; ValueError if its files are damaged or a class has too few
    images.
    """
    try:
        images = read_mnist_family("FashionMNIST", data_path, cache=cache_path, download=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"FashionDVS is made from Fashion-MNIST's images: {error}; where apt-get install "
            "dataset-fashion-mnist is possible, it puts them where they are found by themselves"
        ) from error
    return {
        f"{part}/{class_name}": _first_of_class(images, part, label)
        for part in FASHION_IMAGES
        for label, class_name in enumerate(FASHION)
    }


def _first_of_class(images: Images, part: str, label: int) -> dict[str, np.ndarray]:
    pixels, labels = getattr(images, part).tensors
    wanted = FASHION_IMAGES[part]
    chosen = (labels == label).nonzero()[:wanted, 0].tolist()
    if len(chosen) < wanted:
        raise ValueError(
            f"the {part} part of Fashion-MNIST has {len(chosen)} images of {FASHION[label]}, "
            f"expected at least {wanted}: put the published files in its place"
        )
    return {f"fashion_{part}_{index}": pixels[index, 0].double().numpy() / 255 for index in chosen}


PICTURES = {"DigitsDVS": digits, "FashionDVS": fashion}
