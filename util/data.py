"""The image data sets by name, each with its augmentation and normalisation.

Order of the published recipe: random crop, flip, AutoAugment, Cutout, float, normalisation. The
first four work on uint8 images, sample by sample where they are loaded or, on request, on whole
batches on the device; the last two always do that (ImageData.to_input).

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

from util.batch_augment import BatchAugmentation, KeyedDataset, KeyedImages
from util.dataset import Images, make_fake_data, read_cifar, read_digits, read_mnist_family
from util.image_augment import CifarAutoAugment, Cutout
from util.loader import AugmentedDataset
from util.sampler import mixed_seed


class Recipe(NamedTuple):
    """How a data set is augmented and normalised unless the caller says otherwise."""

    padding: int  # pixels, on each side, before the random crop back to the image's size
    flip: bool  # horizontally, with probability 1/2
    policy: bool  # AutoAugment and Cutout
    mean: tuple[float, ...] | None  # per channel of images in 0..1; None: measured on train
    std: tuple[float, ...] | None


# The AutoAugment policy was searched on CIFAR-10, so it is the default there alone. A mirrored
# digit is another symbol, so digits are not flipped.
RECIPES = {
    "CIFAR10": Recipe(4, True, True, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR100": Recipe(4, True, True, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "MNIST": Recipe(2, False, False, (0.1307,), (0.3081,)),
    "FashionMNIST": Recipe(2, True, False, (0.2860,), (0.3530,)),
    "Digits": Recipe(2, False, False, None, None),
    "FakeData": Recipe(4, True, False, None, None),
}
DATASETS = tuple(RECIPES)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set ready for util.loader.make_loader, and what is needed to use its batches.

    `train` is keyed by (epoch, index), `validation` and `test` by index; all give (image
    (C, H, W) uint8, label), but with `augmentation` the images of `train` are KeyedImages, which
    `to_input` augments. `auto_aug` and `cutout` say what was applied in the end.
    """

    name: str
    train: AugmentedDataset | KeyedDataset
    validation: Dataset | None  # held out of the training set, not augmented
    test: Dataset  # not augmented
    class_names: tuple[str, ...]
    channels: int
    image_size: int  # pixels, height = width
    mean: tuple[float, ...]
    std: tuple[float, ...]
    auto_aug: bool
    cutout: bool
    augmentation: BatchAugmentation | None = None  # of whole batches, in place of single images

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def to_input(self, batch: Tensor | KeyedImages) -> Tensor:
        """(B, C, H, W) uint8 -> float32, (images / 255 - mean) / std, on the batch's device."""
        images = self.augmentation(batch) if isinstance(batch, KeyedImages) else batch
        mean, std = _normalisation(self.mean, self.std, images.device)
        return images.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)


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
    batch_aug: bool = False,
    seed: int = 0,
    validation_fraction: float | None = None,
    split_seed: int = 0,
    download: bool = True,
) -> ImageData:
    """The data set `name` (one of DATASETS) from the folder `data_path`.

    `auto_aug`, `cutout`: None is the data set's own default, on for CIFAR and off for the others.
    `batch_aug` augments whole batches on their device, with other draws of the same distribution.
    `seed` decides the augmentation. `validation_fraction` (between 0 and 1) of the training set
    is held out, in equal parts of each class; `split_seed` decides which, apart from `seed`, so
    that runs of several seeds are compared on the same images. CIFAR and MNIST sets that are not
    in the folder are unpacked or, unless `download` is off, downloaded into `cache_path` (default:
    the folder); Digits and FakeData need none.

    Raises FileNotFoundError for missing data and ValueError for damaged data or a wrong argument.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown data set {name!r}: choose from {', '.join(DATASETS)}")
    recipe = RECIPES[name]
    folder = Path(data_path).expanduser()
    cache = None if cache_path is None else Path(cache_path).expanduser()
    images = _read(name, folder, cache, download=download)
    channels, _, image_size = images.train.tensors[0].shape[1:]
    mean, std = recipe.mean, recipe.std
    if mean is None:
        mean, std = _measure(images.train.tensors[0])
    train, validation = images.train, None
    if validation_fraction is not None:
        train, validation = split_off(train, validation_fraction, seed=split_seed)
    auto_aug = recipe.policy if auto_aug is None else auto_aug
    cutout = recipe.policy if cutout is None else cutout
    steps = {"padding": recipe.padding, "flip": recipe.flip, "auto_aug": auto_aug, "cutout": cutout}
    if batch_aug:
        train, augmentation = KeyedDataset(train), BatchAugmentation(seed, **steps)
    else:
        transform, augmentation = training_transform(image_size, **steps), None
        train = AugmentedDataset(train, transform, seed=seed)
    return ImageData(
        name=name,
        train=train,
        validation=validation,
        test=images.test,
        class_names=images.class_names,
        channels=channels,
        image_size=image_size,
        mean=mean,
        std=std,
        auto_aug=auto_aug,
        cutout=cutout,
        augmentation=augmentation,
    )


def training_transform(
    image_size: int, *, padding: int, flip: bool, auto_aug: bool, cutout: bool
) -> v2.Compose:
    """The random transform of one image, (C, H, W) uint8 -> the same."""
    steps = [v2.RandomCrop(image_size, padding=padding)]
    steps += [v2.RandomHorizontalFlip()] if flip else []
    steps += [CifarAutoAugment()] if auto_aug else []
    steps += [Cutout()] if cutout else []
    return v2.Compose(steps)


def split_off(
    dataset: TensorDataset, fraction: float, *, seed: int
) -> tuple[TensorDataset, TensorDataset]:
    """The rest and a held-out `fraction` of the samples, with equal shares of each class."""
    images, labels = dataset.tensors
    rest, held_out = (
        TensorDataset(images[part], labels[part])
        for part in split_indices(labels.numpy(), fraction, seed=seed)
    )
    return rest, held_out


def split_indices(labels: np.ndarray, fraction: float, *, seed: int) -> tuple[list[int], list[int]]:
    """Indices of the rest and of a held-out `fraction`, with equal shares of each label."""
    from sklearn.model_selection import train_test_split

    if not 0 < fraction < 1:
        raise ValueError(f"validation fraction {fraction}: expected more than 0 and less than 1")
    try:
        rest, held_out = train_test_split(
            range(len(labels)),
            test_size=fraction,
            stratify=labels,
            random_state=mixed_seed("validation", seed) % 2**32,
        )
    except ValueError as error:
        raise ValueError(
            f"validation fraction {fraction} of {len(labels)} samples does not leave every class "
            "on both sides: choose another fraction"
        ) from error
    return rest, held_out


def _read(name: str, folder: Path, cache: Path | None, *, download: bool) -> Images:
    if name == "Digits":
        return read_digits()
    if name == "FakeData":
        return make_fake_data()
    read = read_cifar if name.startswith("CIFAR") else read_mnist_family
    return read(name, folder, cache=cache, download=download)


def _measure(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of images scaled to 0..1."""
    values = images.transpose(0, 1).flatten(1).double() / 255
    return tuple(values.mean(1).tolist()), tuple(values.std(1).tolist())
