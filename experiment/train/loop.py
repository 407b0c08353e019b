"""The one training loop: an epoch is its steps, an evaluation, a record and a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch import Tensor
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
from experiment.train.time_steps import TimeSteps
from experiment.train.update import Update
from experiment.train.warm_up import WarmUp
from model import RateModel
from model.distillation import RELIABLE, SelfDistillationLoss, Teacher
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
    context = step_context(state, recipe, group, to_input=training.data.to_input)
    step, update = choose_step(context, recipe, training.share), context.update
    stop_if_asked = partial(save_and_stop_if_asked, context, recorder, stop)
    with closing(StepBatches(training)) as batches:
        warm_up = WarmUp(recipe.warmup, batches.steps)
        while state.epoch < recipe.num_epoch:
            done = torch.tensor(state.epoch / recipe.num_epoch, dtype=torch.float64)
            progress = done.to(group.device)
            watch = Stopwatch(group, state.measured)
            bar = StepBar(f"epoch {state.epoch}", batches.steps, state.batch, show=group.is_first)
            state.net.train()
            with closing(bar), bad_samples_named(training, batches, state):
                for parts in watch.timed(batches.of_epoch(state.epoch, state.batch)):
                    update.follow_schedule(warm_up.factor(state.epoch, state.batch))
                    step(parts, progress)
                    state.measured = watch.count(sum(len(labels) for _, labels in parts))
                    bar.advance()
                    stop_if_asked()
                    if recipe.checkpoint_every and state.batch % recipe.checkpoint_every == 0:
                        save_midway(context, recorder)
                update.settle()
                state.measured = watch.count(0)  # by now the newest has ended, also on a GPU
            evaluations = {}
            if is_evaluated(state.epoch, recipe):
                evaluations = evaluate_all(state, training, between=stop_if_asked)
            rate = state.scheduler.get_last_lr()[0] * warm_up.factor(state.epoch, batches.steps - 1)
            record = {"lr": rate, **evaluations, "timing": watch.report()}
            finish_epoch(state, record, recorder, group)


def is_evaluated(epoch: int, recipe: Recipe) -> bool:
    """Whether there is an evaluation after an epoch, counted from 0; after the last there is."""
    done = epoch + 1
    return done % recipe.eval_every == 0 or done == recipe.num_epoch


def evaluate_all(
    state: TrainingState, training: Training, *, between: Callable[[], None]
) -> dict[str, Any]:
    """`evaluate_each` of the network, and as "ema" that of the averaged one, if there is one."""
    evaluations = evaluate_each(state.net, training, state.place, between=between)
    if state.average is not None:
        averaged, place = state.average.net, f"{state.place}, averaged weights"
        evaluations["ema"] = evaluate_each(averaged, training, place, between=between)
    return evaluations


def evaluate_each(
    net: RateModel, training: Training, place: str, *, between: Callable[[], None]
) -> dict[str, Any]:
    """`evaluate` on the validation set, if there is one, and on the test set, by their names.

    Raises: NonFiniteError, with the place, if a loss is not finite.
    """
    names = ("test",) if training.data.validation is None else ("validation", "test")
    evaluations = {name: evaluate(net, training, name, between=between) for name in names}
    refuse_non_finite_evaluation(evaluations, place)
    return evaluations


def choose_step(context: StepContext, recipe: Recipe, size: int) -> Step:
    """How a batch of this recipe's training moves the weights; `size` images, if it is full."""
    online = context.state.net.method.online
    if recipe.cuda_graph:
        assert recipe.accum == 1
        return partial(take_step, context, move=graphed_move(context, size))
    if online or recipe.accum > 1:
        return AccumulatedStep(context, online_pass if online else whole_pass)
    return partial(take_step, context)


def step_context(
    state: TrainingState, recipe: Recipe, group: Group, *, to_input: Callable[[Tensor], Tensor]
) -> StepContext:
    """What the steps of a training work with; to_input: as of `StepContext`."""
    net = state.net
    network = net if group.world_size == 1 else averaging(net, recipe)
    if state.average is not None:
        state.average.begin(net)  # only now does each process have the initial weights
    teacher = teacher_of(recipe, net)
    return StepContext(
        state,
        network,
        loss=make_loss(recipe, group, teacher),
        update=Update(net, state.optimizer, group, clip_norm=recipe.clip_norm),
        to_input=to_input,
        amp=recipe.amp,
        group=group,
        time_steps=TimeSteps(recipe.T_min, net.T, recipe.seed),
        averaged=state.average.net if teacher.averaged else None,
    )


def teacher_of(recipe: Recipe, net: RateModel) -> Teacher:
    """The recipe's teacher; where nobody learns from it, none that another network runs for."""
    teacher = teacher_named(recipe.teacher)
    is_heard = net.branches and recipe.beta > 0
    return teacher if is_heard or not teacher.averaged else RELIABLE


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


def make_loss(recipe: Recipe, group: Group, teacher: Teacher) -> SelfDistillationLoss:
    """The loss of a recipe, averaged over all processes."""
    average = group.mean if group.world_size > 1 else None
    return SelfDistillationLoss(
        recipe.alp,
        recipe.beta,
        teacher=teacher,
        label_smoothing=recipe.label_smoothing,
        average=average,
    )


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
    state: TrainingState, record: dict[str, Any], recorder: Recorder, group: Group
) -> None:
    """Write the epoch's record, move on to the next epoch, save the newest and the best state.

    record: all but its number and the metrics of its training; without an evaluation it is no
    candidate for the best.
    """
    state.means.gather(group.sum, keep=True)
    record = {"epoch": state.epoch, "train": state.means.means(), **record}
    chosen_on = record.get("validation", record.get("test"))
    top1 = None if chosen_on is None else chosen_on["top1"]
    is_best = top1 is not None and (state.best is None or top1 > state.best["top1"])
    if is_best:
        state.best = {"epoch": state.epoch, "top1": top1}
    recorder.write(record, state)
    state.next_epoch()
    recorder.save_averaged(state)
    recorder.save(state, group, is_best=is_best)
