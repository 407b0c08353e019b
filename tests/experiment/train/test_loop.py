"""The step is the published recipe's, and a bad one is not taken."""

import itertools
import math
import multiprocessing
import os
import signal
import time
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from experiment.train import loop
from experiment.train.accumulated import AccumulatedStep, online_pass, whole_pass
from experiment.train.evaluation import evaluate
from experiment.train.failure import NonFiniteError, Stopped
from experiment.train.loop import choose_step, is_evaluated, make_loss, teacher_of
from experiment.train.recorder import Recorder
from experiment.train.step import take_step
from experiment.train.update import Update
from experiment.trained.part.evaluation_set import EvaluationSet
from model import METHODS, TEACHERS, RateModel
from tests.support.micro_training import (
    LOSS,
    ONE_PROCESS,
    MicroData,
    fit_silently,
    micro_context,
    micro_data,
    micro_images,
    micro_network,
    micro_recipe,
    micro_state,
    micro_training,
    take_steps,
)
from util.process.signals import StopRequest


def batches_of(count, size, seed=5):
    return list(DataLoader(micro_images(count, seed=seed), batch_size=size))


def step_through(state, batches, loss=LOSS):
    take_steps(choose_step(micro_context(state, loss), micro_recipe(), 4), batches)


def loss_by_hand(heads, labels, alp, beta, tau=3.0):
    """The equations of the loss, sample by sample and head by head."""
    hard = F.cross_entropy(heads[-1], labels)
    for logits in heads[:-1]:
        hard = hard + alp * F.cross_entropy(logits, labels)
    soft, reliable = torch.zeros(()), 0
    for b, label in enumerate(labels):
        right = [logits[b].detach() for logits in heads if logits[b].argmax() == label]
        if right:
            reliable += 1
            teacher = (sum(right) / len(right) / tau).softmax(0)
            for logits in heads:
                student = (logits[b] / tau).log_softmax(0)
                soft = soft + tau**2 * (teacher * (teacher.log() - student)).sum()
    return hard + beta * soft / max(reliable, 1)


@pytest.mark.parametrize(
    ("epochs", "every", "seen"),
    [(3, 1, [0, 1, 2]), (5, 2, [1, 3, 4]), (6, 3, [2, 5]), (2, 7, [1]), (1, 1, [0])],
)
def test_evaluations_come_every_so_many_epochs_and_after_the_last(epochs, every, seen):
    recipe = micro_recipe(num_epoch=epochs, eval_every=every)
    assert [epoch for epoch in range(epochs) if is_evaluated(epoch, recipe)] == seen


def test_the_loss_of_a_recipe_has_its_teacher_and_its_labels():
    net = micro_network()
    for name, teacher in TEACHERS.items():
        recipe = micro_recipe(teacher=name, label_smoothing=0.25)
        loss = make_loss(recipe, ONE_PROCESS, teacher_of(recipe, net))
        assert (loss.teacher, loss.label_smoothing) == (teacher, 0.25)
    with pytest.raises(ValueError, match="unknown teacher 'mean'"):
        teacher_of(micro_recipe(teacher="mean"), net)


@pytest.mark.parametrize(
    ("method", "changes", "kind", "backward"),
    [
        ("esd", {}, partial, None),
        ("bptt", {"accum": 2}, AccumulatedStep, whole_pass),
        ("sltt", {}, AccumulatedStep, online_pass),
        ("ottt", {"accum": 2}, AccumulatedStep, online_pass),
    ],
)
def test_a_step_has_the_passes_that_its_recipe_needs(method, changes, kind, backward):
    """Their numbers are those of one pass; what they keep is not."""
    step = choose_step(micro_context(micro_state(method=method)), micro_recipe(**changes), 4)
    assert type(step) is kind
    assert getattr(step, "backward", None) is backward


def test_a_graph_is_what_its_recipe_s_step_does_on_the_device(monkeypatch):
    context, made = micro_context(micro_state()), []
    monkeypatch.setattr("experiment.train.loop.graphed_move", lambda *given: made.append(given))
    step = choose_step(context, micro_recipe(cuda_graph=True), 4)
    assert (step.func, step.keywords) == (take_step, {"move": None})
    assert made == [(context, 4)]


@pytest.mark.parametrize("method", METHODS)
def test_training_equals_a_loop_written_by_hand(method):
    batches = batches_of(11, 4)  # the last batch is smaller
    state = micro_state(method=method)
    step_through(state, batches)
    assert (state.epoch, state.batch) == (0, 3)

    net = micro_network(method).train()
    velocity = {name: torch.zeros_like(value) for name, value in net.named_parameters()}
    for x, labels in batches:
        x = x.float() / 64
        steps = net.method.own_pass.steps(net, x) if net.method.online else [x]
        passes = [net(step) for step in steps]
        losses = [loss_by_hand(heads, labels, alp=0.7, beta=0.3) for heads in passes]
        loss = sum(losses) / len(losses) / 3  # T = 3
        parameters = dict(net.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            for (name, value), gradient in zip(parameters.items(), gradients, strict=True):
                decay = 1e-3 if value.ndim > 1 else 0.0
                velocity[name] = 0.9 * velocity[name] + gradient + decay * value
                value -= 0.1 * velocity[name]
    for name, value in net.state_dict().items():
        torch.testing.assert_close(state.net.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_means_are_those_of_the_samples():
    state = micro_state()
    losses = []

    def remembering(heads, labels, *given):
        losses.append((LOSS(heads, labels, *given), len(labels)))
        return losses[-1][0]

    step_through(state, batches_of(11, 4), remembering)
    mean = sum(loss.total.item() * count for loss, count in losses) / 11
    assert state.means.means()["total"] == pytest.approx(mean, rel=1e-6)


@pytest.fixture
def saved(monkeypatch):
    """How far the state was at each save."""
    stages = []

    def save(self, state, group, *, is_best=False):
        stages.append((state.epoch, state.batch))

    monkeypatch.setattr(Recorder, "save", save)
    return stages


def fit_all(stop=None, **changes):
    """10 images in batches of 4: three steps in each of two epochs."""
    recipe = micro_recipe(**changes)
    fit_silently(micro_state(recipe), micro_training(recipe), stop=stop)


def test_checkpoints_come_every_so_many_steps_and_after_each_epoch(saved):
    fit_all(checkpoint_every=2)
    assert saved == [(0, 2), (1, 0), (1, 2), (2, 0)]
    fit_all()
    assert saved[4:] == [(1, 0), (2, 0)]


def test_a_request_to_stop_is_heard_after_the_step(saved):
    stop = StopRequest()
    stop.requested = "SIGTERM"
    with pytest.raises(Stopped, match="stopped by SIGTERM at epoch 0, step 1") as stopped:
        fit_all(stop)
    assert saved == [(0, 1)]
    assert stopped.value.exit_code == 128 + signal.SIGTERM


def test_a_request_to_stop_is_heard_during_an_evaluation(saved, monkeypatch):
    run = RateModel.head_logits

    def signalled(net, x, **options):
        if not net.training:
            os.kill(os.getpid(), signal.SIGUSR1)
            monkeypatch.setattr(RateModel, "head_logits", run)
        return run(net, x, **options)

    monkeypatch.setattr(RateModel, "head_logits", signalled)
    with StopRequest() as stop, pytest.raises(Stopped, match="SIGUSR1 at epoch 0, step 3"):
        fit_all(stop)
    assert saved == [(0, 3)]  # all steps are done, the epoch is not finished


@pytest.mark.parametrize(
    ("warmup", "factors"),
    [
        (0, [1] * 6),
        (0.5, [1 / 1.5] + [1] * 5),
        (1.5, [k / 4.5 for k in range(1, 5)] + [1] * 2),
        (2, [k / 6 for k in range(1, 7)]),
    ],
)
def test_steps_follow_the_schedule_and_records_tell_their_last(warmup, factors, saved, monkeypatch):
    update, rates, records = Update.__call__, [], []

    def noting(self, loss):
        rates.append(float(self.rates[0]))
        update(self, loss)

    monkeypatch.setattr(Update, "__call__", noting)
    monkeypatch.setattr(Recorder, "write", lambda self, record, state: records.append(record))
    fit_all(warmup=warmup)
    wanted = [rate * factor for rate, factor in zip([0.1] * 3 + [0.05] * 3, factors, strict=True)]
    assert rates == pytest.approx(wanted, rel=1e-12)
    assert [record["lr"] for record in records] == pytest.approx(wanted[2::3], rel=1e-12)


@pytest.mark.parametrize(
    ("bad", "signal_name", "changes"),
    [(0, None, {"checkpoint_every": 1}), (0, "SIGTERM", {}), (2, None, {})],
)
def test_nothing_is_saved_before_its_last_step_was_found_finite(
    bad, signal_name, changes, saved, monkeypatch
):
    """Also where the host hears of a step while the next one runs."""
    update, steps = Update.__call__, itertools.count()

    def spoilt(self, loss):
        factor = math.nan if next(steps) == bad else 1.0
        update(self, loss._replace(total=factor * loss.total))

    monkeypatch.setattr(Update, "__call__", spoilt)
    monkeypatch.setattr("experiment.train.loop.Update", partial(Update, runs_ahead=True))
    stop = StopRequest()
    stop.requested = signal_name
    with pytest.raises(NonFiniteError, match=f"epoch 0, step {bad}: the total loss"):
        fit_all(stop, **changes)
    assert saved == []


def test_the_time_of_an_epoch_includes_waiting_for_its_newest_step(monkeypatch):
    """Which on a GPU still runs when the host has launched it."""
    seconds = []
    monkeypatch.setattr(Update, "look_back", lambda *arguments: None)
    monkeypatch.setattr(Update, "settle", lambda update: time.sleep(0.5))
    monkeypatch.setattr(loop, "evaluate", lambda *arguments, **options: {"loss": 1.0, "top1": 1.0})
    finish = loop.finish_epoch

    def noting(state, record, *others):
        seconds.append(record["timing"]["seconds"])
        finish(state, record, *others)

    monkeypatch.setattr(loop, "finish_epoch", noting)
    fit_silently(micro_state(micro_recipe(num_epoch=1)), micro_training(micro_recipe(num_epoch=1)))
    assert seconds[0] >= 0.5


def test_an_evaluation_that_is_not_finite_stops_the_run(saved, monkeypatch):
    diverged = {"loss": math.inf}
    monkeypatch.setattr("experiment.train.loop.evaluate", lambda *args, **options: diverged)
    with pytest.raises(NonFiniteError, match="loss on the test set is inf"):
        fit_all()
    assert saved == []


@pytest.mark.parametrize("command", ["training", "evaluation", "trained"])
def test_an_error_that_is_caught_leaves_no_process_that_loads_data(command):
    """In a notebook nothing ends them but we."""

    class Mistaken(MicroData):
        def to_input(self, batch):
            begun.extend(multiprocessing.active_children())
            raise TypeError("a mistake")

    before, begun = multiprocessing.active_children(), []
    images = micro_data().train
    data = Mistaken(images, Subset(images, [(0, index) for index in range(9)]))
    training = micro_training(micro_recipe(num_workers=2), data)
    with pytest.raises(TypeError) as error:
        if command == "training":
            fit_silently(micro_state(), training)
        elif command == "evaluation":
            evaluate(micro_network(), training, "test")
        else:
            list(EvaluationSet(data, ONE_PROCESS, batch_size=2, num_workers=2).batches())
    assert len(begun) == len(before) + 2
    assert multiprocessing.active_children() == before
    assert error.value.__traceback__ is not None
