"""A network, data and a recipe so small that a step takes milliseconds."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from experiment.recipe import Recipe
from experiment.training_state import TrainingState
from model import RateModel, build_model
from util.distributed import Group
from util.loader import AugmentedDataset

ONE_PROCESS = Group(0, 1, torch.device("cpu"))
CLASSES = 5


def micro_recipe(**changes) -> Recipe:
    values = {
        "seed": 3, "num_epoch": 2, "train_batch_size": 4, "val_batch_size": 5, "num_workers": 0,
        "optim": "SGDM", "lr": 0.1, "wd": 1e-3, "scheduler": "COSINE", "alp": 0.7, "beta": 0.3,
    }  # fmt: skip
    return Recipe(**(values | changes))


def micro_network(method: str = "esd") -> RateModel:
    torch.manual_seed(0)
    return build_model(
        "resnet19", num_classes=CLASSES, in_channels=2, T=3, width=2, method=method, thresh=0.3
    )


def micro_images(count: int, *, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, 2, 9, 7), generator=generator, dtype=torch.uint8)
    return TensorDataset(images, torch.randint(CLASSES, (count,), generator=generator))


@dataclass(frozen=True)
class MicroData:
    """What `experiment.engine.Data` asks for, on images of noise."""

    train: Dataset
    test: Dataset
    validation: Dataset | None = None
    name: str = "noise"
    class_names: tuple[str, ...] = ("a", "b", "c", "d", "e")
    channels: int = 2

    def to_input(self, batch: Tensor) -> Tensor:
        return batch.float() / 64


def micro_data() -> MicroData:
    train = AugmentedDataset(micro_images(10, seed=1), lambda image: image, seed=0)
    return MicroData(train, micro_images(13, seed=2))


def micro_state(recipe: Recipe | None = None, method: str = "esd") -> TrainingState:
    return TrainingState(micro_network(method), recipe or micro_recipe(), {"T": 3, "arch": "x"})
