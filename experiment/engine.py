"""The one training loop: `fit` calls `train_one_epoch` and `evaluate` once per epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiment.evaluation import evaluate
from experiment.failure import Stopped
from experiment.finite import (
    bad_samples_named,
    refuse_non_finite,
    refuse_non_finite_evaluation,
)
from experiment.gradient_pass import GradientPass, gradient_pass, sum_of
from experiment.progress_bar import StepBar
from experiment.recipe import Recipe
from experiment.recorder import Recorder
from experiment.stopwatch import Stopwatch
from experiment.training_state import TrainingState
from model import RateModel
from model.distillation import SelfDistillationLoss
from model.registry import teacher_named
from util.distributed import Group, share_of_batch
from util.loader import SteadyLoader, make_loader
from util.misc import top_k_correct
from util.sampler import EpochSampler
from util.signals import StopRequest


class Data(Protocol):
    """What training needs of a data set; `util.data.ImageData` is one."""

    name: str
    train: Dataset  # keyed by (epoch, index)
    validation: Dataset | None
    test: Dataset
    class_names: tuple[str, ...]
    channels: int
    image_size: int  # pixels, height = width

    def to_input(self, batch: Tensor) -> Tensor:
        """A batch as loaded -> what the network takes, on the batch's device."""


def fit(
    state: TrainingState,
    data: Data,
    recipe: Recipe,
    *,
    group: Group,
    recorder: Recorder,
    stop: StopRequest,
) -> None:
    """Train from where `state` is to the last epoch.

    Raises: Stopped after a signal, with everything saved; NonFiniteError; ValueError for samples
    that are not finite.
    """
    loader, sampler = training_loader(data, recipe, group)
    batch_size = share_of_batch(recipe.train_batch_size, group)
    steps = -(-sampler.shard_length // batch_size)
    progress = torch.zeros((), dtype=torch.float64, device=group.device)
    loss_function = partial(make_loss(recipe, group), progress=progress)
    run = gradient_pass(state, loss_function, recipe, group)

    def leave_if_asked() -> None:
        """Save and leave if a signal came; between two steps or two batches of an evaluation."""
        exit_code = group.max(stop.exit_code)
        if exit_code:
            stop.take_over(exit_code)
            recorder.save(state, group)
            group.wait_for_all()  # when one leaves, torchrun ends those that still save
            raise Stopped(stop, state.place)

    with closing(loader):
        while state.epoch < recipe.num_epoch:
            sampler.set_epoch(
                state.epoch, start=min(state.batch * batch_size, sampler.shard_length)
            )
            progress.fill_(state.epoch / recipe.num_epoch)
            watch = Stopwatch(group)
            bar = StepBar(f"epoch {state.epoch}", steps, state.batch, show=group.is_first)
            with closing(bar), bad_samples_named(data, sampler, state, batch_size, group):
                for images in train_one_epoch(
                    state, watch.timed(loader), run, data.to_input, group, recipe.accum
                ):
                    watch.count(images)
                    bar.advance()
                    leave_if_asked()
                    if recipe.checkpoint_every and state.batch % recipe.checkpoint_every == 0:
                        recorder.save(state, group)
            evaluations = evaluate_splits(state.net, data, recipe, group, leave_if_asked)
            refuse_non_finite_evaluation(evaluations, state.place)
            finish_epoch(state, evaluations, watch.report(), recorder, group)


def training_loader(data: Data, recipe: Recipe, group: Group) -> tuple[SteadyLoader, EpochSampler]:
    """This process's batches of an epoch, each a part of a step, in the order of the sampler."""
    sampler = EpochSampler(
        len(data.train), seed=recipe.seed, shuffle=True, rank=group.rank,
        world_size=group.world_size,
    )  # fmt: skip
    loader = make_loader(
        data.train, batch_size=share_of_batch(recipe.train_batch_size, group, parts=recipe.accum),
        sampler=sampler, num_workers=recipe.num_workers, device=group.device,
    )  # fmt: skip
    return loader, sampler


def make_loss(recipe: Recipe, group: Group) -> SelfDistillationLoss:
    """The loss of a recipe, averaged over all processes."""
    teacher = teacher_named(recipe.teacher)
    average = group.mean if group.world_size > 1 else None
    return SelfDistillationLoss(recipe.alp, recipe.beta, teacher=teacher, average=average)


def finish_epoch(
    state: TrainingState,
    evaluations: dict[str, dict[str, Any]],
    timing: dict[str, Any],
    recorder: Recorder,
    group: Group,
) -> None:
    """Write the epoch's record, move on to the next epoch, save the newest and the best state."""
    state.means.gather(group.sum, keep=True)
    record = {
        "epoch": state.epoch,
        "lr": state.scheduler.get_last_lr()[0],
        "train": state.means.means(),
        **evaluations,
        "timing": timing,
    }
    top1 = record.get("validation", record["test"])["top1"]
    is_best = state.best is None or top1 > state.best["top1"]
    if is_best:
        state.best = {"epoch": state.epoch, "top1": top1}
    recorder.write(record, state)
    state.next_epoch()
    recorder.save(state, group, is_best=is_best)


def train_one_epoch(
    state: TrainingState,
    batches: Iterable[tuple[Tensor, Tensor]],
    run: GradientPass,
    to_input: Callable[[Tensor], Tensor],
    group: Group,
    accum: int = 1,
) -> Iterator[int]:
    """One optimizer step per `accum` batches: forward, teacher and loss, backward, check, step.

    A generator: yields the number of images of each step when it is complete.
    """
    net = state.net.train()
    batches = iter(batches)
    while parts := list(islice(batches, accum)):
        image_count = sum(len(labels) for _, labels in parts)
        state.optimizer.zero_grad(set_to_none=True)
        losses = []
        for number, (images, labels) in enumerate(parts, 1):
            labels = labels.to(group.device, non_blocking=True)
            inputs = to_input(images.to(group.device, non_blocking=True))
            share, last = len(labels) / image_count, number == len(parts)
            loss, heads = run(inputs, labels, share=share, exchange=last)
            losses.append(loss)
            correct = top_k_correct(heads, labels, ks=(1,))[1]
            state.means.update(
                {**loss._asdict(), "head_top1": 100 * correct / len(labels)}, weight=len(labels)
            )
        loss = sum_of(losses)
        refuse_non_finite(loss, net, group, state.place)
        state.optimizer.step()
        state.batch += 1
        yield image_count


def evaluate_splits(
    net: RateModel, data: Data, recipe: Recipe, group: Group, between: Callable[[], None]
) -> dict[str, dict[str, Any]]:
    """`evaluate` on the test set and, where there is one, on the validation set."""
    splits = {"validation": data.validation, "test": data.test}
    return {
        name: evaluate(
            net, dataset, data.to_input, batch_size=recipe.val_batch_size, amp=recipe.amp,
            num_workers=recipe.num_workers, group=group, between=between,
            name=f"the {name} set of {data.name}",
        )
        for name, dataset in splits.items() if dataset is not None
    }  # fmt: skip
