"""How many images per second a worker prepares: reading, decoding, augmenting.

    OMP_NUM_THREADS=1 python benchmark/input.py
    OMP_NUM_THREADS=1 python benchmark/input.py --data_path IMAGENET --workers 1 4 16

Without --data_path the JPEG files are scikit-learn's two photographs, scaled to 500 x 375 pixels,
the size of a typical ImageNet image. Rates are of one process that does nothing else, and (with
--workers) of the data loader as training uses it, batches of 64 images in shared memory.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # from any folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from benchmark.command import Parser, whole_number
from benchmark.measure import machine, median
from util.data import load_dataset
from util.image_folder import READERS, find_image_files
from util.imagenet import evaluation_transform, training_transform
from util.loader import AugmentedDataset, make_loader

PHOTO_SIZE, QUALITY = (500, 375), 95
BATCH = 64
ROUNDS = 5


class Pipeline(NamedTuple):
    """A way from a file, or from memory, to an image; keyed by (epoch, index)."""

    name: str
    images: AugmentedDataset


def pipelines(root: Path) -> list[Pipeline]:
    """What the experiments do to each image; `root` has JPEG files in class folders."""
    cifar = load_dataset("FakeData", ".", auto_aug=True, cutout=True)
    found = [Pipeline("CIFAR training (AutoAugment, Cutout)", cifar.train)]
    for reader in READERS:
        files, _ = find_image_files(root, reader=reader)
        for name, transform in (
            ("training", training_transform(224, auto_aug=False, cutout=False)),
            ("test", evaluation_transform(224)),
        ):
            images = AugmentedDataset(files, transform, seed=0)
            found.append(Pipeline(f"ImageNet {name}, reader {reader}", images))
    return found


def write_photographs(folder: Path) -> Path:
    """scikit-learn's photographs as JPEG files in one class folder, 32 of each."""
    from sklearn.datasets import load_sample_images

    (folder / "photographs").mkdir()
    for number, pixels in enumerate(load_sample_images().images):
        photo = Image.fromarray(pixels).resize(PHOTO_SIZE, Image.Resampling.BICUBIC)
        for copy in range(32):
            photo.save(folder / "photographs" / f"{number}-{copy:02}.jpg", quality=QUALITY)
    return folder


def rate_of_one_process(images: Dataset, *, seconds: float) -> float:
    """Images per second, the median of ROUNDS."""
    rates = []
    keys = iter(RandomKeys(len(images)))
    for _ in range(ROUNDS):
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds / ROUNDS:
            images[next(keys)]
            count += 1
        rates.append(count / (time.perf_counter() - begun))
    return median(rates)


def rate_of_loader(images: Dataset, workers: int, *, seconds: float) -> float:
    """Images per second of the loader with so many workers, once all have begun."""
    loader = make_loader(
        images, batch_size=BATCH, sampler=RandomKeys(len(images)), num_workers=workers, device="cpu"
    )
    batches = iter(loader)
    for _ in range(2 * workers):  # what the workers fetched ahead while they started
        next(batches)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        count += len(next(batches)[1])
    return count / (time.perf_counter() - begun)


class RandomKeys(Sampler[tuple[int, int]]):
    """(0, index) without end, at random."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = np.random.default_rng(0)
        while True:
            yield 0, int(generator.integers(self.length))


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(__doc__)
    parser.add_argument("--data_path", metavar="FOLDER", type=Path, default=None,
        help="ImageNet's folder, with train/CLASS/*.JPEG; default: photographs")  # fmt: skip
    parser.add_argument("--workers", metavar="N", type=whole_number, nargs="*", default=[],
        help="measure the loader with so many workers too")  # fmt: skip
    parser.add_argument("--seconds", type=whole_number, default=5, help="for each measurement")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_path / "train" if args.data_path else write_photographs(Path(folder))
        print(", ".join(f"{name} {value}" for name, value in machine("cpu").items()))
        print(f"JPEG files of {mean_kilobytes(root):.0f} kB in the mean\n")
        columns = ["one process", *(f"loader, {n} workers" for n in args.workers)]
        print("| images per second | " + " | ".join(columns) + " |")
        print("|--|" + "--:|" * len(columns))
        for name, images in pipelines(root):
            rates = [rate_of_one_process(images, seconds=args.seconds)]
            rates += [rate_of_loader(images, n, seconds=args.seconds) for n in args.workers]
            print(f"| {name} | " + " | ".join(f"{rate:.0f}" for rate in rates) + " |", flush=True)


def mean_kilobytes(root: Path) -> float:
    """Of the first thousand files."""
    files, _ = find_image_files(root, reader="pil")
    sizes = [files.path(i).stat().st_size for i in range(min(len(files), 1000))]
    return sum(sizes) / len(sizes) / 1000


if __name__ == "__main__":
    main()
