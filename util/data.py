"""The image data sets by name, each with its augmentation and normalisation.

Order of the published recipe: random crop, flip, AutoAugment, Cutout, float, normalisation. The
first four work on uint8 images, sample by sample where they are loaded; the last two on whole
batches on the device (ImageData.to_input).

Shapes: B batch, C channels, H height, W width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms import v2

from util.image.decoded import read_pictures
from util.image.image_sets import Images, make_fake_data, read_cifar, read_digits, read_mnist_family
from util.image.picture_folder import PictureOptions
from util.image_augment import CUTOUT_SIZE, CifarAutoAugment, Cutout
from util.process.loader import AugmentedDataset
from util.stratify import stratified_split
from util.training_part import WHOLE, TrainingPart


class DataRecipe(NamedTuple):
    """How a data set is augmented and normalised unless the caller says otherwise."""

    # Pixels, on each side, before the random crop back to the image's size; None, for pictures of
    # any size: an eighth of it, and Cutout's square has half of it.
    padding: int | None
    flip: bool  # horizontally, with probability 1/2
    policy: bool  # AutoAugment and Cutout
    mean: tuple[float, ...] | None  # per channel of images in 0..1; None: measured on train
    std: tuple[float, ...] | None

    @property
    def augmentation(self) -> dict[str, bool]:
        """What is applied where nothing else is asked for."""
        return {"crop": True, "flip": self.flip, "auto_aug": self.policy, "cutout": self.policy}


FOLDER = "Folder"  # pictures of the user's own

# The AutoAugment policy was searched on CIFAR-10, so it is the default there alone. A mirrored
# digit is another symbol, so digits are not flipped.
DATA_RECIPES = {
    "CIFAR10": DataRecipe(4, True, True, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR100": DataRecipe(4, True, True, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "MNIST": DataRecipe(2, False, False, (0.1307,), (0.3081,)),
    "FashionMNIST": DataRecipe(2, True, False, (0.2860,), (0.3530,)),
    "Digits": DataRecipe(2, False, False, None, None),
    "FakeData": DataRecipe(4, True, False, None, None),
    FOLDER: DataRecipe(None, True, False, None, None),
}
DATASETS = tuple(DATA_RECIPES)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set ready for util.process.loader.make_loader, and what is needed to use its batches.

    `train` is keyed by (epoch, index), `validation` and `test` by index; all give (image
    (C, H, W) uint8, label). `crop`, `flip`, `auto_aug` and `cutout` say what was applied in the
    end, `notes` what was done to the training set beside, in a line each.
    """

    name: str
    train: AugmentedDataset
    validation: Dataset | None  # held out of the training set, not augmented
    test: Dataset  # not augmented
    class_names: tuple[str, ...]
    channels: int
    image_size: int  # pixels, height = width
    mean: tuple[float, ...]
    std: tuple[float, ...]
    auto_aug: bool
    cutout: bool
    crop: bool = True
    flip: bool = True
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[list[Dataset], list[Dataset]]:
        """All that there is to train with and to test, not augmented."""
        held_out = [] if self.validation is None else [self.validation]
        return [self.train.source, *held_out], [self.test]

    def to_input(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> float32, (images / 255 - mean) / std, on the batch's device."""
        mean, std = _normalisation(self.mean, self.std, images.device)
        return images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)

    def draw_into(self, folder: Path) -> None:
        """Nothing: a person can look at the images as they are."""


@lru_cache
def _normalisation(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Both as (C, 1, 1) on `device`; kept, because each copy to an accelerator waits for it."""
    return tuple(
        torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)
        for values in (mean, std)
    )


def load_dataset(
    name: str,
    data_path: str | Path,
    *,
    cache_path: str | Path | None = None,
    pictures: PictureOptions | None = None,
    crop: bool | None = None,
    flip: bool | None = None,
    auto_aug: bool | None = None,
    cutout: bool | None = None,
    seed: int = 0,
    validation_fraction: float | None = None,
    part: TrainingPart = WHOLE,
    report: Callable[[str], None] = lambda line: None,
) -> ImageData:
    """The data set `name` (one of DATASETS) from the folder `data_path`.

    `pictures` says how those of FOLDER are read. `crop`, `flip`, `auto_aug`, `cutout`: None is the
    data set's own default. `seed` decides the augmentation. `validation_fraction` (between 0 and
    1) of the training set is held out, see `stratified_split`, and `part` of the rest is trained
    on; the normalisation is measured on the whole training set. What is downloaded, unpacked or
    decoded goes into `cache_path` (default: the folder); Digits and FakeData need neither.
    `report` is given a line of text where that takes long.

    Raises FileNotFoundError for missing data and ValueError for damaged data or a wrong argument.
    """
    if name not in DATA_RECIPES:
        raise ValueError(f"unknown data set {name!r}: choose from {', '.join(DATASETS)}")
    recipe = DATA_RECIPES[name]
    folder = Path(data_path).expanduser()
    cache = None if cache_path is None else Path(cache_path).expanduser()
    if name == FOLDER:
        images = read_pictures(folder, pictures or PictureOptions(), cache=cache, report=report)
    else:
        images = _read(name, folder, cache)
    pixels, labels = images.train.tensors
    channels, _, image_size = pixels.shape[1:]
    mean, std = recipe.mean, recipe.std
    if mean is None:
        mean, std = _measure(pixels)
    train, validation = images.train, None
    if validation_fraction is not None:
        parts = stratified_split(labels.numpy(), validation_fraction)
        train, validation = (TensorDataset(pixels[side], labels[side]) for side in parts)
    train, notes = part.of(train, train.tensors[1], images.class_names)
    asked = {"crop": crop, "flip": flip, "auto_aug": auto_aug, "cutout": cutout}
    applied = {
        key: recipe.augmentation[key] if value is None else value for key, value in asked.items()
    }
    return ImageData(
        name=name,
        train=AugmentedDataset(train, _transform(recipe, image_size, **applied), seed=seed),
        validation=validation,
        test=images.test,
        class_names=images.class_names,
        channels=channels,
        image_size=image_size,
        mean=mean,
        std=std,
        notes=notes,
        **applied,
    )


def _transform(
    recipe: DataRecipe, image_size: int, *, crop: bool, flip: bool, auto_aug: bool, cutout: bool
) -> v2.Compose:
    padding, square = recipe.padding, CUTOUT_SIZE
    if padding is None:
        padding, square = image_size // 8, image_size // 2
    return small_image_transform(
        image_size,
        padding=padding if crop else 0,
        flip=flip,
        auto_aug=auto_aug,
        cutout=square if cutout else 0,
    )


def small_image_transform(
    image_size: int, *, padding: int, flip: bool, auto_aug: bool, cutout: int
) -> v2.Compose:
    """The random transform of one image, (C, H, W) uint8 -> the same.

    padding: pixels on each side, from which the image's size is cut out anew; cutout: pixels of
    Cutout's side; 0: without.
    """
    steps = [v2.RandomCrop(image_size, padding=padding)] if padding else []
    steps += [v2.RandomHorizontalFlip()] if flip else []
    steps += [CifarAutoAugment()] if auto_aug else []
    steps += [Cutout(cutout)] if cutout else []
    return v2.Compose(steps or [nn.Identity()])


def _read(name: str, folder: Path, cache: Path | None) -> Images:
    if name == "Digits":
        return read_digits()
    if name == "FakeData":
        return make_fake_data()
    read = read_cifar if name.startswith("CIFAR") else read_mnist_family
    return read(name, folder, cache=cache)


def _measure(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images scaled to 0..1.

    By the counts of the 256 values: as decimals all pixels would take eight times their memory.
    A channel that never varies, as in pictures of one colour, has the deviation 1: it becomes 0.
    """
    counts = torch.stack(
        [channel.flatten().bincount(minlength=256) for channel in images.unbind(1)]
    )
    values, total = torch.arange(256, dtype=torch.float64) / 255, counts[0].sum()
    mean = (counts * values).sum(1) / total
    variance = (counts * (values - mean[:, None]) ** 2).sum(1) / (total - 1)
    std = variance.sqrt().where(variance > 0, 1)
    return tuple(mean.tolist()), tuple(std.tolist())
