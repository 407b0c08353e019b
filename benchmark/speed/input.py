"""How many images per second a worker prepares, and how many the training step takes.

    OMP_NUM_THREADS=1 python -m benchmark.speed.input
    OMP_NUM_THREADS=1 python -m benchmark.speed.input --width 16 --T 4 --batch 32
    python -m benchmark.speed.input --device cuda --batch 128 --imagenet_batch 64 --workers 1 4 16

Without --data_path the JPEG files are scikit-learn's two photographs, scaled to 500 x 375 pixels,
the size of a typical ImageNet image; without scikit-learn they are left out. Rates are of one
process that does nothing else, and (with --workers) of the data loader as training uses it, batches
of 64 images in shared memory.

Beside them are the images per second of one training step on --device (forward, loss, backward,
update; resnet18 unless --arch says otherwise on 32 x 32 pixels, preact_resnet34 with T = 4 on
224 x 224) and the workers that keep up with it, each as fast as the one process.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, Sampler

from benchmark.speed.command import Parser, run, whole_number, workload_of
from benchmark.speed.harness import TrainingStep
from benchmark.speed.measure import Rounds, machine, machine_in_words, median_seconds, undivided
from benchmark.speed.workload import VARIANTS, Workload
from experiment.flag.kinds import expanded_path
from experiment.packages import left_out_if_missing
from util.data import load_dataset
from util.figure import markdown_table
from util.image.files import READERS, find_image_files
from util.image.imagenet import imagenet_test_transform, imagenet_training_transform
from util.process.loader import AugmentedDataset, make_loader

PHOTO_SIZE, QUALITY = (500, 375), 95
BATCH = 64
ROUNDS = 5
CIFAR_SIZE, IMAGENET_SIZE = 32, 224  # pixels, height = width


class Pipeline(NamedTuple):
    """A way from a file, or from memory, to an image of `size` pixels; keyed by (epoch, index)."""

    name: str
    size: int
    images: AugmentedDataset


def pipelines(root: Path | None) -> list[Pipeline]:
    """What the experiments do to each image; `root` has JPEG files in class folders, if any."""
    cifar = load_dataset("FakeData", ".", auto_aug=True, cutout=True)
    found = [Pipeline("CIFAR training (AutoAugment, Cutout)", CIFAR_SIZE, cifar.train)]
    for reader in READERS if root is not None else ():
        files, _ = find_image_files(root, reader=reader)
        for name, transform in (
            ("training", imagenet_training_transform(IMAGENET_SIZE, auto_aug=False, cutout=False)),
            ("test", imagenet_test_transform(IMAGENET_SIZE)),
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


def rate_of_step(workload: Workload) -> float:
    """Images per second of the whole step: forward, loss, backward, update."""
    step = undivided(TrainingStep(VARIANTS["one_pass"], workload))
    (seconds,) = median_seconds([step], Rounds(ROUNDS), workload.device)
    return workload.batch / seconds["step"]


def in_words(workload: Workload) -> str:
    width = "as published" if workload.width is None else workload.width
    return (
        f"{workload.arch}, {workload.size} x {workload.size} pixels, width {width}, "
        f"T = {workload.T}, {workload.batch} images, on {workload.device}"
    )


def mean_kilobytes(root: Path) -> float:
    """Of the first thousand files."""
    files, _ = find_image_files(root, reader="pil")
    sizes = [files.path(i).stat().st_size for i in range(min(len(files), 1000))]
    return sum(sizes) / len(sizes) / 1000


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    text = "ImageNet's folder, with train/CLASS/*.JPEG; default: photographs"
    add("--data_path", metavar="FOLDER", type=expanded_path, help=text)
    text = "measure the loader with so many workers too"
    add("--workers", metavar="N", type=whole_number, nargs="*", default=[], help=text)
    text = "for each measurement of a pipeline (default: %(default)s)"
    add("--seconds", type=whole_number, default=5, help=text)
    parser.add_shared(arch="resnet18", width=None, T=6, batch=16)
    text = "images of the step on 224 pixels; default: it is not measured"
    add("--imagenet_batch", metavar="IMAGES", type=whole_number, help=text)
    parser.add_shared(device="cpu")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    torch.set_num_threads(1)
    workloads = [workload_of(args, args.T)]
    if args.imagenet_batch is not None:
        sizes = {"size": IMAGENET_SIZE, "num_classes": 1000, "device": args.device}
        workloads.append(Workload("preact_resnet34", 4, args.imagenet_batch, **sizes))
    print(machine_in_words(machine(args.device)))
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_path and args.data_path / "train"
        if root is None:
            with left_out_if_missing(lambda why: print(f"no JPEG files: {why}")):
                root = write_photographs(Path(folder))
        found = pipelines(root)  # before a step is measured: refuses what is no image folder
        steps = {}
        for workload in workloads:
            steps[workload.size] = rate_of_step(workload)
            print(f"step: {in_words(workload)}", flush=True)
        if root is not None:
            print(f"JPEG files of {mean_kilobytes(root):.0f} kB in the mean\n")
        loaders = [f"loader, {n} workers" for n in args.workers]
        header = ["images per second", "one process", *loaders]
        rows = []
        for name, size, images in found:
            rates = [rate_of_one_process(images, seconds=args.seconds)]
            rates += [rate_of_loader(images, n, seconds=args.seconds) for n in args.workers]
            step = steps.get(size)  # None: it was not measured
            demand = ["", ""] if step is None else [f"{step:.0f}", str(math.ceil(step / rates[0]))]
            rows.append([name, *(f"{rate:.0f}" for rate in rates), *demand])
        print(markdown_table([*header, "the step takes", "workers to feed it"], rows))


if __name__ == "__main__":
    run(main)
