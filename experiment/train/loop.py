"""The one training loop: an epoch is its steps, an evaluation, a record and a checkpoint."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from experiment.train.accumulated import AccumulatedStep, online_pass, whole_pass
from experiment.train.batches import StepBatches
from experiment.train.clock import Stopwatch
from experiment.train.evaluation import evaluate
from experiment.train.failure import Stopped
from experiment.train.finite import bad_samples_named, refuse_non_finite_evaluation
from experiment.train.graph import graphed_move
from experiment.train.recipe import Recipe
from experiment.train.recorder import Recorder
from experiment.train.state import TrainingState
from experiment.train.step import Step, StepContext, take_step
from experiment.train.task import Training
from experiment.train.update import Update
from model import RateModel
from model.distillation import SelfDistillationLoss
from model.registry import teacher_named
from util.process.distributed import Group
from util.process.progress import StepBar
from util.process.signals import StopRequest


def fit(state: TrainingState, training: Training, *, recorder: Recorder, stop: StopRequest) -> None:
    """Train from where `state` is to the last epoch.

    Raises: Stopped after a signal, with everything saved; NonFiniteError; ValueError for samples
    that are not finite.
    """
    recipe, group = training.recipe, training.group
    context = step_context(state, training)
    step, update = choose_step(context, recipe, training.share), context.update
    splits = ("test",) if training.data.validation is None else ("validation", "test")
    stop_if_asked = partial(save_and_stop_if_asked, context, recorder, stop)
    with closing(StepBatches(training)) as batches:
        while state.epoch < recipe.num_epoch:
            done = torch.tensor(state.epoch / recipe.num_epoch, dtype=torch.float64)
            progress = done.to(group.device)
            watch = Stopwatch(group)
            bar = StepBar(f"epoch {state.epoch}", batches.steps, state.batch, show=group.is_first)
            state.net.train()
            update.follow_schedule()
            with closing(bar), bad_samples_named(training, batches, state):
                for parts in watch.timed(batches.of_epoch(state.epoch, state.batch)):
                    step(parts, progress)
                    watch.count(sum(len(labels) for _, labels in parts))
                    bar.advance()
                    stop_if_asked()
                    if recipe.checkpoint_every and state.batch % recipe.checkpoint_every == 0:
                        save_midway(context, recorder)
                update.settle()
                watch.count(0)  # the newest step has ended now, where the host runs ahead
            evaluations = {
                name: evaluate(state.net, training, name, between=stop_if_asked) for name in splits
            }
            refuse_non_finite_evaluation(evaluations, state.place)
            finish_epoch(state, evaluations, watch.report(), recorder, group)


def choose_step(context: StepContext, recipe: Recipe, size: int) -> Step:
    """How a batch of this recipe's training moves the weights; `size` images, if it is full."""
    online = context.state.net.method.online
    if recipe.cuda_graph:
        assert recipe.accum == 1
        return partial(take_step, context, move=graphed_move(context, size))
    if online or recipe.accum > 1:
        return AccumulatedStep(context, online_pass if online else whole_pass)
    return partial(take_step, context)


def step_context(state: TrainingState, training: Training) -> StepContext:
    """What the steps of this training work with."""
    recipe, group, net = training.recipe, training.group, state.net
    network = net if group.world_size == 1 else averaging(net, recipe)
    loss, update = make_loss(recipe, group), Update(net, state.optimizer, group)
    return StepContext(state, network, loss, update, training.data.to_input, recipe.amp, group)


def averaging(net: RateModel, recipe: Recipe) -> DistributedDataParallel:
    """The network for one of several processes: they average gradients during the backward pass.

    An exchange begins as soon as a bucket of gradients is whole, and leaves it where they are read.
    """
    return DistributedDataParallel(
        net,
        broadcast_buffers=False,  # running statistics, which training reads not; `evaluate` does
        gradient_as_bucket_view=True,
        static_graph=recipe.accum == 1 and not net.method.online,  # one pass, always the same
    )


def make_loss(recipe: Recipe, group: Group) -> SelfDistillationLoss:
    """The loss of a recipe, averaged over all processes."""
    teacher = teacher_named(recipe.teacher)
    average = group.mean if group.world_size > 1 else None
    return SelfDistillationLoss(recipe.alp, recipe.beta, teacher=teacher, average=average)


def save_and_stop_if_asked(context: StepContext, recorder: Recorder, stop: StopRequest) -> None:
    """Leave by Stopped if a signal came to any process; between two steps or two evaluated batches.

    All processes call this equally often.
    """
    state, group = context.state, context.group
    exit_code = group.max(stop.exit_code)
    if exit_code:
        stop.take_over(exit_code)
        save_midway(context, recorder)
        group.wait_for_all()  # when one leaves, torchrun ends those that still save
        raise Stopped(stop, state.place)


def save_midway(context: StepContext, recorder: Recorder) -> None:
    """Save a state in the middle of an epoch, once its newest step was found finite."""
    context.update.settle()
    recorder.save(context.state, context.group)


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
