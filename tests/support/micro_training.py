"""A network, data and a recipe so small that a step takes milliseconds."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from experiment.train.loop import fit, step_context
from experiment.train.recipe import Recipe
from experiment.train.recorder import Recorder
from experiment.train.state import TrainingState
from experiment.train.step import Part, Step, StepContext
from experiment.train.task import Training
from experiment.train.update import Update
from model import RateModel, build_model
from model.distillation import SelfDistillationLoss
from util.process.distributed import Group
from util.process.loader import AugmentedDataset
from util.process.signals import StopRequest

LOSS = SelfDistillationLoss(0.7, 0.3)
ONE_PROCESS = Group(0, 1, torch.device("cpu"))
CLASSES = 5


def micro_recipe(**changes) -> Recipe:
    sizes = {"num_epoch": 2, "train_batch_size": 4, "val_batch_size": 5, "num_workers": 0}
    update = {"optim": "SGDM", "lr": 0.1, "wd": 1e-3, "scheduler": "COSINE"}
    values = {"seed": 3, **sizes, **update, "alp": 0.7, "beta": 0.3, "cuda_graph": False}
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
    """What `experiment.train.task.Data` asks for, on images of noise."""

    train: Dataset
    test: Dataset
    validation: Dataset | None = None
    name: str = "noise"
    class_names: tuple[str, ...] = ("a", "b", "c", "d", "e")
    channels: int = 2

    def to_input(self, batch: Tensor) -> Tensor:
        return batch.float() / 64

    def draw_into(self, folder: Path) -> None:
        pass


def augmented(images: TensorDataset) -> AugmentedDataset:
    """A training set of these images as they are."""
    return AugmentedDataset(images, lambda image: image, seed=0)


def micro_data(**changes) -> MicroData:
    sets = {"train": augmented(micro_images(10, seed=1)), "test": micro_images(13, seed=2)}
    return MicroData(**(sets | changes))


def micro_training(recipe: Recipe | None = None, data: MicroData | None = None) -> Training:
    return Training(data or micro_data(), recipe or micro_recipe(), ONE_PROCESS)


def micro_context(
    state: TrainingState,
    loss: Callable = LOSS,
    *,
    runs_ahead: bool = False,
    clip_norm: float | None = None,
) -> StepContext:
    """What one process steps with; runs_ahead, clip_norm: as of `Update`."""
    options = {"runs_ahead": runs_ahead, "clip_norm": clip_norm}
    update = Update(state.net, state.optimizer, ONE_PROCESS, **options)
    context = step_context(state, micro_recipe(), ONE_PROCESS, to_input=micro_data().to_input)
    return replace(context, loss=loss, update=update)


def take_steps(
    step: Step, batches: Iterable[Part], *, progress: float = 1.0, device: str = "cpu"
) -> None:
    """Each batch is a step in one part; for a network in training mode."""
    progress = torch.tensor(progress, dtype=torch.float64, device=device)
    for batch in batches:
        step([batch], progress)


def micro_state(recipe: Recipe | None = None, method: str = "esd") -> TrainingState:
    net = micro_network(method).train()
    return TrainingState(net, recipe or micro_recipe(), {"T": 3, "arch": "x"})


def fit_silently(
    state: TrainingState, training: Training | None = None, *, stop: StopRequest | None = None
) -> None:
    """`fit` without records."""
    recorder = Recorder(None, logging.getLogger("silent"))
    fit(state, training or micro_training(), recorder=recorder, stop=stop or StopRequest())
