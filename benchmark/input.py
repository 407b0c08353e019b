"""How many images per second a worker prepares, and how many the training step takes.

    OMP_NUM_THREADS=1 python benchmark/input.py
    OMP_NUM_THREADS=1 python benchmark/input.py --width 16 --T 4 --batch 32
    python benchmark/input.py --device cuda --batch 128 --imagenet_batch 64 --workers 1 4 16

Without --data_path the JPEG files are scikit-learn's two photographs, scaled to 500 x 375 pixels,
the size of a typical ImageNet image; without scikit-learn they are left out. Rates are of one
process that does nothing else, and (with --workers) of the data loader as training uses it, batches
of 64 images in shared memory.

Beside them are the images per second of one training step on --device (forward, loss, backward,
update; resnet18 unless --arch says otherwise on 32 x 32 pixels, preact_resnet34 with T = 4 on
224 x 224) and the workers that keep up with it, each as fast as the one process. With --gpu_aug
the workers only hand out images, and the step pays for the augmentation.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":  # from any folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from benchmark.command import Parser, device, run, whole_number
from benchmark.contestant import Workload
from benchmark.demand import (
    describe,
    one_after_the_other,
    rate_of_augmentation,
    rate_of_step,
    workers_to_feed,
)
from benchmark.measure import machine, median
from experiment.flag_parser import expanded_path
from experiment.packages import left_out_if_missing
from model import MODELS
from util.batch_augment import BatchAugmentation, KeyedDataset
from util.data import load_dataset
from util.image_folder import READERS, find_image_files
from util.imagenet import evaluation_transform, training_transform
from util.loader import AugmentedDataset, make_loader

PHOTO_SIZE, QUALITY = (500, 375), 95
BATCH = 64
ROUNDS = 5
CIFAR_SIZE, IMAGENET_SIZE = 32, 224  # pixels, height = width


class Pipeline(NamedTuple):
    """A way from a file, or from memory, to an image of `size` pixels; keyed by (epoch, index).

    augmentation: what is left to do with the batch on the training device.
    """

    name: str
    size: int
    images: AugmentedDataset | KeyedDataset
    augmentation: BatchAugmentation | None = None


def pipelines(root: Path | None) -> list[Pipeline]:
    """What the experiments do to each image; `root` has JPEG files in class folders, if any."""
    found = []
    for flag in ("", ", --gpu_aug"):
        cifar = load_dataset("FakeData", ".", auto_aug=True, cutout=True, batch_aug=bool(flag))
        name = f"CIFAR training (AutoAugment, Cutout){flag}"
        found.append(Pipeline(name, CIFAR_SIZE, cifar.train, cifar.augmentation))
    for reader in READERS if root is not None else ():
        files, _ = find_image_files(root, reader=reader)
        for name, transform in (
            ("training", training_transform(IMAGENET_SIZE, auto_aug=False, cutout=False)),
            ("test", evaluation_transform(IMAGENET_SIZE)),
        ):
            images = AugmentedDataset(files, transform, seed=0)
            found.append(Pipeline(f"ImageNet {name}, reader {reader}", IMAGENET_SIZE, images))
    return found


def write_photographs(folder: Path) -> Path:
    """scikit-learn's photographs as JPEG files, 32 of each in a class folder."""
    from sklearn.datasets import load_sample_images

    for number, pixels in enumerate(load_sample_images().images):
        photo = Image.fromarray(pixels).resize(PHOTO_SIZE, Image.Resampling.BICUBIC)
        (folder / f"photograph_{number}").mkdir()
        for copy in range(32):
            photo.save(folder / f"photograph_{number}" / f"{copy:02}.jpg", quality=QUALITY)
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
    with closing(loader):
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


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--data_path", metavar="FOLDER", type=expanded_path, default=None,
        help="ImageNet's folder, with train/CLASS/*.JPEG; default: photographs")  # fmt: skip
    add("--workers", metavar="N", type=whole_number, nargs="*", default=[],
        help="measure the loader with so many workers too")  # fmt: skip
    add("--seconds", type=whole_number, default=5, help="for each measurement of a pipeline")
    add("--arch", choices=MODELS, default="resnet18", help="network of the step on 32 pixels")
    add(
        "--width", type=whole_number, default=None, help="its first channels; default: as published"
    )
    add("--T", type=whole_number, default=6, help="its time steps; default: 6")
    add("--batch", type=whole_number, default=16, help="its images per step; default: 16")
    add("--imagenet_batch", metavar="IMAGES", type=whole_number, default=None,
        help="images of the step on 224 pixels; default: it is not measured")  # fmt: skip
    add("--device", type=device, default="cpu", help="of the steps; default: cpu")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    torch.set_num_threads(1)
    print(", ".join(f"{name} {value}" for name, value in machine(args.device).items()))
    steps = {}
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_path and args.data_path / "train"
        if root is None:
            with left_out_if_missing(lambda why: print(f"no JPEG files: {why}")):
                root = write_photographs(Path(folder))
        found = pipelines(root)  # before a step is measured: refuses what is no image folder
        for workload in workloads(
            args.arch, T=args.T, batch=args.batch, width=args.width,
            imagenet_batch=args.imagenet_batch, device=args.device,
        ):  # fmt: skip
            steps[workload.size] = rate_of_step(workload)
            print(f"step: {describe(workload)}", flush=True)
        if root is not None:
            print(f"JPEG files of {mean_kilobytes(root):.0f} kB in the mean\n")
        columns = ["one process", *(f"loader, {n} workers" for n in args.workers),
                   "augmented on the device", "the step takes", "workers to feed it"]  # fmt: skip
        print("| images per second | " + " | ".join(columns) + " |")
        print("|--|" + "--:|" * len(columns))
        for pipeline in found:
            images, step = pipeline.images, steps.get(pipeline.size)
            rates = [rate_of_one_process(images, seconds=args.seconds)]
            rates += [rate_of_loader(images, n, seconds=args.seconds) for n in args.workers]
            cells = [f"{rate:.0f}" for rate in rates]
            cells += demand_cells(pipeline, step, rates[0], batch=args.batch, device=args.device)
            print(f"| {pipeline.name} | " + " | ".join(cells) + " |", flush=True)


def workloads(
    arch: str, *, T: int, batch: int, width: int | None, imagenet_batch: int | None, device: str
) -> list[Workload]:
    """The steps to measure."""
    found = [Workload(arch, T, batch, branches=True, size=CIFAR_SIZE, width=width, device=device)]
    if imagenet_batch is not None:
        found.append(Workload("preact_resnet34", 4, imagenet_batch, branches=True,
                              size=IMAGENET_SIZE, num_classes=1000, device=device))  # fmt: skip
    return found


def demand_cells(
    pipeline: Pipeline, step: float | None, made: float, *, batch: int, device: str
) -> list[str]:
    """The last three columns of a row; empty where nothing was measured."""
    augmented = ""
    if pipeline.augmentation is not None:
        rate = rate_of_augmentation(
            pipeline.augmentation, pipeline.images, batch=batch, device=device
        )
        augmented = f"{rate:.0f}"
        step = step and one_after_the_other(step, rate)
    if step is None:
        return [augmented, "", ""]
    return [augmented, f"{step:.0f}", str(workers_to_feed(step, made))]


def mean_kilobytes(root: Path) -> float:
    """Of the first thousand files."""
    files, _ = find_image_files(root, reader="pil")
    sizes = [files.path(i).stat().st_size for i in range(min(len(files), 1000))]
    return sum(sizes) / len(sizes) / 1000


if __name__ == "__main__":
    run(main)
