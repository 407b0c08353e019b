"""ImageNet, or any two trees of class folders with the published transforms, and random images.

Training: RandomResizedCrop and a horizontal flip; test: Resize and CenterCrop, 256 and 224 pixels
for images of 224. Images stay uint8 up to the device, where `ImageData.to_input` normalises them.

The published run ignored its flags for AutoAugment and Cutout, so both are off by default. They
follow the crop and the flip where they are on: torchvision's ImageNet policy, and a square of half
the image's side, the share that Cutout has on CIFAR.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from util.data import ImageData
from util.file.named_folder import refuse_folder_near, refuse_no_folder
from util.image.files import READERS, find_two_parts, to_uint8
from util.image_augment import Cutout
from util.process.loader import AugmentedDataset
from util.stratify import stratified_split
from util.training_part import WHOLE, TrainingPart

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_CLASSES, TRAIN_IMAGES, TEST_IMAGES = 1000, 1_281_167, 50_000  # of ImageNet
RESIZE_RATIO = 256 / 224
DUMMY_POOL = 256  # random images that are different


def load_imagenet(
    data_path: str | Path,
    *,
    image_size: int = 224,
    crop: bool = True,
    flip: bool = True,
    auto_aug: bool = False,
    cutout: bool = False,
    reader: str = "pil",
    seed: int = 0,
    validation_fraction: float | None = None,
    part: TrainingPart = WHOLE,
) -> ImageData:
    """The images of `data_path`/train/CLASS and `data_path`/val/CLASS (the test set).

    crop, flip, auto_aug, cutout: see `imagenet_training_transform`. reader: one of READERS.
    `validation_fraction` of the training images is held out (see `stratified_split`) and not
    augmented, and `part` of the rest is trained on.

    Raises: FileNotFoundError for a missing or wrong layout; ValueError if it is that of another
    folder, if both trees do not have the same classes, or for a wrong argument.
    """
    if reader not in READERS:
        raise ValueError(f"unknown reader {reader!r}: choose from {', '.join(READERS)}")
    folder = Path(data_path).expanduser()
    refuse_no_folder(folder, ("train", "val"))
    refuse_folder_near(folder, ("train", "val"))
    files, test_files, class_names = find_two_parts(folder, "train", "val", reader=reader)
    rest, held_out = range(len(files)), None
    if validation_fraction is not None:
        rest, held_out = stratified_split(files.labels, validation_fraction)
    remaining = files.part(rest)
    train, notes = part.of(remaining, remaining.labels, class_names)
    plain = imagenet_test_transform(image_size)
    applied = {"crop": crop, "flip": flip, "auto_aug": auto_aug, "cutout": cutout}
    augment = imagenet_training_transform(image_size, **applied)
    return ImageData(
        name="imagenet",
        train=AugmentedDataset(train, augment, seed=seed),
        validation=None if held_out is None else files.part(held_out, plain),
        test=test_files.part(range(len(test_files)), plain),
        class_names=class_names,
        channels=3,
        image_size=image_size,
        mean=MEAN,
        std=STD,
        **applied,
        notes=notes,
    )


def imagenet_training_transform(
    image_size: int, *, auto_aug: bool, cutout: bool, crop: bool = True, flip: bool = True
) -> v2.Compose:
    """The random transform of one decoded image; gives (3, image_size, image_size) uint8.

    Without the random crop it begins with what a test sees.
    """
    steps = [v2.RandomResizedCrop(image_size, antialias=True)] if crop else centred(image_size)
    steps += [v2.RandomHorizontalFlip()] if flip else []
    steps += [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)] if auto_aug else []
    steps += [v2.Lambda(to_uint8)]
    steps += [Cutout(image_size // 2)] if cutout else []
    return v2.Compose(steps)


def imagenet_test_transform(image_size: int) -> v2.Compose:
    """The transform of one decoded image in a test; gives (3, image_size, image_size) uint8."""
    return v2.Compose([*centred(image_size), v2.Lambda(to_uint8)])


def centred(image_size: int) -> list[nn.Module]:
    """The steps to the centre of an image, most of which it holds."""
    side = round(image_size * RESIZE_RATIO)
    return [v2.Resize(side, antialias=True), v2.CenterCrop(image_size)]


class RandomImages(Dataset):
    """`count` images of noise with labels, of which DUMMY_POOL are different, held in memory."""

    def __init__(self, count: int, *, image_size: int, num_classes: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (min(count, DUMMY_POOL), 3, image_size, image_size)
        self.images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        self.labels = torch.randint(num_classes, shape[:1], generator=generator).tolist()
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        place = index % len(self.images)
        return self.images[place], self.labels[place]


def make_random_data(
    count: int = TRAIN_IMAGES,
    *,
    image_size: int = 224,
    num_classes: int = NUM_CLASSES,
    seed: int = 0,
) -> ImageData:
    """Noise in place of ImageNet, to measure everything but decoding; nothing can be learnt.

    `count` training images and as many test images as ImageNet has for them.
    """
    tests = max(1, count * TEST_IMAGES // TRAIN_IMAGES)
    options = {"image_size": image_size, "num_classes": num_classes}
    return ImageData(
        name="random images",
        train=AugmentedDataset(RandomImages(count, seed=1, **options), nn.Identity(), seed=seed),
        validation=None,
        test=RandomImages(tests, seed=2, **options),
        class_names=tuple(f"noise {label}" for label in range(num_classes)),
        channels=3,
        image_size=image_size,
        mean=MEAN,
        std=STD,
        auto_aug=False,
        cutout=False,
        crop=False,
        flip=False,
    )
