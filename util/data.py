"""The image data sets by name, each with its augmentation and normalisation.

Order of the published recipe: random crop, flip, AutoAugment, Cutout, float, normalisation. The
first four work on uint8 images, sample by sample where they are loaded; the last two on whole
batches on the device (ImageData.to_input).

Shapes: B batch, C channels, H height, W width.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset
from torchvision.transforms import v2

from util.image.image_sets import Images, make_fake_data, read_cifar, read_digits, read_mnist_family
from util.image_augment import CifarAutoAugment, Cutout
from util.process.loader import AugmentedDataset
from util.process.sampler import mixed_seed


class DataRecipe(NamedTuple):
    """How a data set is augmented and normalised unless the caller says otherwise."""

    padding: int  # pixels, on each side, before the random crop back to the image's size
    flip: bool  # horizontally, with probability 1/2
    policy: bool  # AutoAugment and Cutout
    mean: tuple[float, ...] | None  # per channel of images in 0..1; None: measured on train
    std: tuple[float, ...] | None


# The AutoAugment policy was searched on CIFAR-10, so it is the default there alone. A mirrored
# digit is another symbol, so digits are not flipped.
DATA_RECIPES = {
    "CIFAR10": DataRecipe(4, True, True, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR100": DataRecipe(4, True, True, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "MNIST": DataRecipe(2, False, False, (0.1307,), (0.3081,)),
    "FashionMNIST": DataRecipe(2, True, False, (0.2860,), (0.3530,)),
    "Digits": DataRecipe(2, False, False, None, None),
    "FakeData": DataRecipe(4, True, False, None, None),
}
DATASETS = tuple(DATA_RECIPES)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set ready for util.process.loader.make_loader, and what is needed to use its batches.

    `train` is keyed by (epoch, index), `validation` and `test` by index; all give (image
    (C, H, W) uint8, label). `auto_aug` and `cutout` say what was applied in the end.
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
    auto_aug: bool | None = None,
    cutout: bool | None = None,
    seed: int = 0,
    validation_fraction: float | None = None,
) -> ImageData:
    """The data set `name` (one of DATASETS) from the folder `data_path`.

    `auto_aug`, `cutout`: None is the data set's own default, on for CIFAR and off for the others.
    `seed` decides the augmentation. `validation_fraction` (between 0 and 1) of the training set
    is held out, see `stratified_split`. CIFAR and MNIST sets that are not in the folder are
    unpacked or downloaded into `cache_path` (default: the folder); Digits and FakeData need none.

    Raises FileNotFoundError for missing data and ValueError for damaged data or a wrong argument.
    """
    if name not in DATA_RECIPES:
        raise ValueError(f"unknown data set {name!r}: choose from {', '.join(DATASETS)}")
    recipe = DATA_RECIPES[name]
    folder = Path(data_path).expanduser()
    cache = None if cache_path is None else Path(cache_path).expanduser()
    images = _read(name, folder, cache)
    pixels, labels = images.train.tensors
    channels, _, image_size = pixels.shape[1:]
    mean, std = recipe.mean, recipe.std
    if mean is None:
        mean, std = _measure(pixels)
    train, validation = images.train, None
    if validation_fraction is not None:
        parts = stratified_split(labels.numpy(), validation_fraction)
        train, validation = (TensorDataset(pixels[part], labels[part]) for part in parts)
    auto_aug = recipe.policy if auto_aug is None else auto_aug
    cutout = recipe.policy if cutout is None else cutout
    transform = small_image_transform(
        image_size, padding=recipe.padding, flip=recipe.flip, auto_aug=auto_aug, cutout=cutout
    )
    return ImageData(
        name=name,
        train=AugmentedDataset(train, transform, seed=seed),
        validation=validation,
        test=images.test,
        class_names=images.class_names,
        channels=channels,
        image_size=image_size,
        mean=mean,
        std=std,
        auto_aug=auto_aug,
        cutout=cutout,
    )


def small_image_transform(
    image_size: int, *, padding: int, flip: bool, auto_aug: bool, cutout: bool
) -> v2.Compose:
    """The random transform of one image, (C, H, W) uint8 -> the same."""
    steps = [v2.RandomCrop(image_size, padding=padding)]
    steps += [v2.RandomHorizontalFlip()] if flip else []
    steps += [CifarAutoAugment()] if auto_aug else []
    steps += [Cutout()] if cutout else []
    return v2.Compose(steps)


def stratified_split(labels: np.ndarray, fraction: float) -> tuple[list[int], list[int]]:
    """Indices of the rest and of a held-out `fraction`, with equal shares of each label.

    No seed of a run has a part in it: runs of several seeds are compared on the same samples.
    """
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(f"validation fraction {fraction}: expected more than 0 and less than 1")
    try:
        rest, held_out = train_test_split(
            range(len(labels)),
            test_size=fraction,
            stratify=labels,
            random_state=mixed_seed("validation", 0) % 2**32,
        )
    except ValueError as error:
        raise ValueError(
            f"validation fraction {fraction} of {len(labels)} samples does not leave every class "
            "on both sides: choose another fraction"
        ) from error
    return rest, held_out


def _read(name: str, folder: Path, cache: Path | None) -> Images:
    if name == "Digits":
        return read_digits()
    if name == "FakeData":
        return make_fake_data()
    read = read_cifar if name.startswith("CIFAR") else read_mnist_family
    return read(name, folder, cache=cache)


def _measure(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images scaled to 0..1."""
    values = images.transpose(0, 1).flatten(1).double() / 255
    return tuple(values.mean(1).tolist()), tuple(values.std(1).tolist())
