"""Where the images come from: one reader per data set, all with the same result.

Shapes: N samples, C channels, H height, W width. Images are uint8 (N, C, H, W), labels int64 (N,).
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import TensorDataset
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, FashionMNIST
from torchvision.datasets.utils import check_integrity

from util.file.fetch import FAILURES, fetch
from util.file.named_folder import refuse_folder_near, refuse_no_folder
from util.image.idx import read_idx

CIFAR_CLASSES = {"CIFAR10": CIFAR10, "CIFAR100": CIFAR100}
MNIST_CLASSES = {"MNIST": MNIST, "FashionMNIST": FashionMNIST}
# Where Debian's package dataset-fashion-mnist puts its files.
PACKAGED_FOLDERS = {"FashionMNIST": Path("/usr/share/datasets/fashion-mnist")}


class Images(NamedTuple):
    """A labelled data set in memory, as its authors split it."""

    train: TensorDataset
    test: TensorDataset
    class_names: tuple[str, ...]


def labelled(images: Tensor, labels: Tensor, *, num_classes: int, origin: str) -> TensorDataset:
    """Pair images with labels; ValueError, naming `origin`, if they do not belong together."""
    if len(images) != len(labels):
        raise ValueError(f"{origin}: {len(images)} images but {len(labels)} labels")
    if len(images) == 0:
        raise ValueError(f"{origin}: there are no images in it")
    if images.shape[-2] != images.shape[-1]:
        height, width = images.shape[-2:]
        raise ValueError(f"{origin}: images of {height} x {width} pixels, expected square ones")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"{origin}: label {wrong}, expected 0 to {num_classes - 1}")
    return TensorDataset(images, labels)


def read_cifar(name: str, folder: Path, *, cache: Path | None = None) -> Images:
    """CIFAR10 or CIFAR100 from torchvision's python batches, unpacked, archived or downloaded.

    They are looked for in `folder` and `cache`, and unpacked or downloaded into `cache` (default:
    `folder`).
    """
    dataset_class = CIFAR_CLASSES[name]
    wanted = (dataset_class.base_folder, dataset_class.filename)
    refuse_no_folder(folder, wanted, unpacked=True)
    places = [folder] if cache is None else [folder, cache]
    unpacked = [place for place in places if (place / dataset_class.base_folder).exists()]
    folder = unpacked[0] if unpacked else _obtain_cifar(dataset_class, places)
    _check_cifar_files(dataset_class, folder / dataset_class.base_folder)
    splits = [dataset_class(folder, train=train) for train in (True, False)]
    class_names = tuple(splits[0].classes)
    train, test = (
        labelled(
            torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(split.targets),
            num_classes=len(class_names),
            origin=f"{name} in {folder}",
        )
        for split in splits
    )
    return Images(train, test, class_names)


def _obtain_cifar(dataset_class: type[CIFAR10], places: list[Path]) -> Path:
    """Unpack the archive that lies in one of `places`, or download it; returns the last of them."""
    result = dataset_class.base_folder
    archives = [path for place in places if (path := place / dataset_class.filename).exists()]
    archive = archives[0] if archives else None
    if archive is None:
        refuse_folder_near(places[0], (result, dataset_class.filename))
    elif not check_integrity(archive, dataset_class.tgz_md5):
        raise ValueError(f"{archive} is damaged (wrong md5 sum): delete it and fetch it again")
    advice = (
        f"expected the folder {result} or the file {dataset_class.filename}; fetch "
        f"{dataset_class.url} and put it there (it is unpacked by itself)"
    )
    _fetch_missing(dataset_class, places, advice, result=result, archive=archive)
    return places[-1]


def _fetch_missing(
    dataset_class: type[CIFAR10] | type[MNIST], places: list[Path], advice: str, **what: Any
) -> None:
    """`fetch` what is not in the first of `places` into the last.

    Raises: FileNotFoundError, with advice on what to put there, where that fails.
    """
    try:
        fetch(dataset_class, places[-1], **what)
    except FAILURES as error:
        why = " ".join(str(error).split())
        raise FileNotFoundError(
            f"{dataset_class.__name__} is not in {places[0]} (fetching it failed: {why}): {advice}"
        ) from error


def _check_cifar_files(dataset_class: type[CIFAR10], folder: Path) -> None:
    """Name the file that torchvision would only say exists ("not found or corrupted")."""
    meta = (dataset_class.meta["filename"], dataset_class.meta["md5"])
    for file_name, md5 in [*dataset_class.train_list, *dataset_class.test_list, meta]:
        path = folder / file_name
        if check_integrity(path, md5):
            continue
        advice = f"delete the folder {folder} and start again to have it made anew"
        if path.is_file():
            raise ValueError(f"{path} is damaged (wrong md5 sum): {advice}")
        name = dataset_class.__name__
        raise FileNotFoundError(f"{path} is missing, the rest of {name} is there: {advice}")


def read_mnist_family(name: str, folder: Path, *, cache: Path | None = None) -> Images:
    """MNIST or FashionMNIST from its four IDX files, plain or .gz, found or downloaded.

    They are looked for in torchvision's layout (`folder`/NAME/raw), in `folder`/NAME, in `folder`
    itself, in `cache`/NAME/raw, and where a package of the system puts them. The first place that
    has any of the four must have them all. They are downloaded into `cache` (default: `folder`).
    """
    dataset_class = MNIST_CLASSES[name]
    refuse_no_folder(folder, (f"{name}/raw",))
    stems = [Path(resource[0]).stem for resource in dataset_class.resources]
    found = _locate_mnist_family(dataset_class, folder, cache or folder, stems)
    paths = {stem: _idx_file(found, stem) for stem in stems}
    missing = [stem for stem, path in paths.items() if path is None]
    if missing:
        raise FileNotFoundError(
            f"{name} in {found} is incomplete: add {', '.join(missing)} (plain or .gz)"
        )
    train, test = (
        labelled(
            read_idx(paths[f"{part}-images-idx3-ubyte"], dimensions=3)[:, None],
            read_idx(paths[f"{part}-labels-idx1-ubyte"], dimensions=1).long(),
            num_classes=len(dataset_class.classes),
            origin=f"{part} part of {name} in {found}",
        )
        for part in ("train", "t10k")
    )
    sizes = [tuple(split.tensors[0].shape[-2:]) for split in (train, test)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"{name} in {found}: training images of {sizes[0]} pixels, test images of {sizes[1]}"
        )
    return Images(train, test, tuple(dataset_class.classes))


def _locate_mnist_family(
    dataset_class: type[MNIST], folder: Path, cache: Path, stems: list[str]
) -> Path:
    """The first place that has any of the files, or the one they were downloaded to."""
    name = dataset_class.__name__
    places = [folder / name / "raw", folder / name, folder, cache / name / "raw"]
    places += [PACKAGED_FOLDERS[name]] if name in PACKAGED_FOLDERS else []
    for place in places:
        if any(_idx_file(place, stem) for stem in stems):
            _refuse_other_family(name, place)
            return place
    refuse_folder_near(folder, (f"{name}/raw",))
    advice = (
        f"expected {', '.join(stems)}, each plain or as .gz, in it or in {name}/raw; fetch the "
        f"four .gz files from {dataset_class.mirrors[0]} and put them there"
    )
    _fetch_missing(dataset_class, [folder, cache], advice, result=f"{name}/raw")
    return cache / name / "raw"


def _refuse_other_family(name: str, place: Path) -> None:
    """ValueError if the folders of the files have another data set's name: all files have one."""
    others = {place.name, place.absolute().parent.name} & (MNIST_CLASSES.keys() - {name})
    if others:
        raise ValueError(f"{place} is a folder of {others.pop()}, not of {name}: give another one")


def _idx_file(folder: Path, stem: str) -> Path | None:
    candidates = (folder / stem, folder / f"{stem}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_digits() -> Images:
    """scikit-learn's 1,797 handwritten digits (UCI optdigits test set), 32 x 32 pixels.

    8 x 8 counts of 0..16 become 0..255, resized bilinearly so that the networks' defaults fit.
    Fixed stratified split: 1,437 to train, 360 to test (train_test_split with random_state 0).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    labels = torch.from_numpy(digits.target).long()
    images = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    images = interpolate(images, size=(32, 32), mode="bilinear").round().to(torch.uint8)
    split = train_test_split(
        range(len(labels)), test_size=360, stratify=digits.target, random_state=0
    )
    train, test = (
        labelled(images[part], labels[part], num_classes=10, origin="Digits") for part in split
    )
    return Images(train, test, tuple(str(digit) for digit in digits.target_names))


def make_fake_data() -> Images:
    """512 training and 128 test images of noise, 3 x 32 x 32, 10 classes; always the same."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (640, 3, 32, 32), generator=generator).to(torch.uint8)
    labels = torch.randint(10, (640,), generator=generator)
    train = TensorDataset(images[:512], labels[:512])
    test = TensorDataset(images[512:], labels[512:])
    return Images(train, test, tuple(f"noise {label}" for label in range(10)))
