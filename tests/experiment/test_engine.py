"""The step is the published recipe's, and a bad one is not taken."""

import copy
import logging
import math
import multiprocessing
import os
import signal

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from experiment.engine import fit, make_loss, train_one_epoch
from experiment.evaluation import evaluate
from experiment.failure import NonFiniteError, Stopped
from experiment.gradient_pass import gradient_pass
from experiment.recorder import Recorder
from experiment.trained.command import batches_of as batches_of_data
from model import METHODS, TEACHERS
from model.distillation import SelfDistillationLoss
from tests.support.micro_training import (
    ONE_PROCESS,
    MicroData,
    micro_data,
    micro_images,
    micro_network,
    micro_recipe,
    micro_state,
)
from util.signals import StopRequest

LOSS = SelfDistillationLoss(0.7, 0.3)


def batches_of(count, size, seed=5):
    return list(DataLoader(micro_images(count, seed=seed), batch_size=size))


def weights_of(net):
    return {name: value.clone() for name, value in net.named_parameters()}


def step_through(state, batches, loss_function=LOSS):
    run = gradient_pass(state, loss_function, micro_recipe(), ONE_PROCESS)
    return train_one_epoch(state, batches, run, micro_data().to_input, ONE_PROCESS)


def loss_by_hand(heads, labels, alp, beta, tau=3.0):
    """DESIGN of the method, sample by sample and head by head."""
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


def test_the_loss_of_a_recipe_has_its_teacher():
    for name, teacher in TEACHERS.items():
        assert make_loss(micro_recipe(teacher=name), ONE_PROCESS).teach is teacher.teach
    with pytest.raises(ValueError, match="unknown teacher 'mean'"):
        make_loss(micro_recipe(teacher="mean"), ONE_PROCESS)


@pytest.mark.parametrize("method", METHODS)
def test_training_equals_a_loop_written_by_hand(method):
    batches = batches_of(11, 4)  # the last batch is smaller
    state = micro_state(method=method)
    images = list(step_through(state, batches))
    assert images == [4, 4, 3]
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

    def remembering(heads, labels):
        losses.append((LOSS(heads, labels), len(labels)))
        return losses[-1][0]

    list(step_through(state, batches_of(11, 4), remembering))
    mean = sum(loss.total.item() * count for loss, count in losses) / 11
    assert state.means.means()["total"] == pytest.approx(mean, rel=1e-6)


def test_a_non_finite_loss_is_named_before_the_weights_are_touched():
    state = micro_state()
    steps = step_through(state, batches_of(8, 4))
    next(steps)
    branch = state.net.branches[0].classifier
    branch.register_forward_hook(lambda module, inputs, logits: logits * math.nan)
    before = weights_of(state.net)
    momentum = copy.deepcopy(state.optimizer.state_dict())
    with pytest.raises(NonFiniteError, match=r"epoch 0, step 1: the hard loss is not finite"):
        next(steps)
    for name, value in state.net.named_parameters():
        assert torch.equal(value, before[name]), name
    for key, entry in state.optimizer.state_dict()["state"].items():
        assert torch.equal(entry["momentum_buffer"], momentum["state"][key]["momentum_buffer"])


@pytest.mark.parametrize(
    ("factor", "term"),
    [(math.nan, "gradient of classifier.0.weight"), (1e30, "norm of the gradient")],
)
def test_a_non_finite_gradient_is_named_before_the_weights_are_touched(factor, term):
    state = micro_state()
    parameter = state.net.get_parameter("classifier.0.weight")
    parameter.register_hook(lambda gradient: torch.full_like(gradient, factor))
    before = weights_of(state.net)
    with pytest.raises(NonFiniteError, match=f"epoch 0, step 0: the {term} is not finite"):
        list(step_through(state, batches_of(4, 4)))
    assert all(torch.equal(v, before[n]) for n, v in state.net.named_parameters())


class Stages(Recorder):
    """Remembers how far the state was at each save."""

    def __init__(self):
        super().__init__(None, logging.getLogger("silent"))
        self.saved = []

    def save(self, state, group, *, is_best=False):
        self.saved.append((state.epoch, state.batch))


def fit_until(state, recipe, stop=None, recorder=None):
    recorder = recorder or Stages()
    stop = stop or StopRequest()
    fit(state, micro_data(), recipe, group=ONE_PROCESS, recorder=recorder, stop=stop)
    return recorder.saved


def test_checkpoints_come_every_so_many_steps_and_after_each_epoch():
    recipe = micro_recipe(checkpoint_every=2)  # 10 images in batches of 4: 3 steps
    assert fit_until(micro_state(recipe), recipe) == [(0, 2), (1, 0), (1, 2), (2, 0)]
    recipe = micro_recipe()
    assert fit_until(micro_state(recipe), recipe) == [(1, 0), (2, 0)]


def test_a_request_to_stop_is_heard_after_the_step():
    recipe, stop, recorder = micro_recipe(), StopRequest(), Stages()
    stop.requested = "SIGTERM"
    with pytest.raises(Stopped, match="stopped by SIGTERM at epoch 0, step 1") as stopped:
        fit_until(micro_state(recipe), recipe, stop, recorder)
    assert recorder.saved == [(0, 1)]
    assert stopped.value.exit_code == 128 + signal.SIGTERM


def test_a_request_to_stop_is_heard_during_an_evaluation(monkeypatch):
    recipe, recorder = micro_recipe(), Stages()
    state = micro_state(recipe)
    run = type(state.net).head_logits

    def signalled(net, x, **options):
        if not net.training:
            os.kill(os.getpid(), signal.SIGUSR1)
            monkeypatch.undo()
        return run(net, x, **options)

    monkeypatch.setattr(type(state.net), "head_logits", signalled)
    with StopRequest() as stop, pytest.raises(Stopped, match="SIGUSR1 at epoch 0, step 3"):
        fit_until(state, recipe, stop, recorder)
    assert recorder.saved == [(0, 3)]  # all steps are done, the epoch is not finished


def test_an_evaluation_that_is_not_finite_stops_the_run(monkeypatch):
    recipe, recorder = micro_recipe(), Stages()
    state = micro_state(recipe)

    def diverging(net, *args, **options):
        return {"loss": math.inf}

    monkeypatch.setattr("experiment.engine.evaluate", diverging)
    with pytest.raises(NonFiniteError, match="loss on the test set is inf"):
        fit_until(state, recipe, recorder=recorder)
    assert recorder.saved == []


@pytest.mark.parametrize("command", ["training", "evaluation", "trained"])
def test_an_error_that_is_caught_leaves_no_process_that_loads_data(command):
    """In a notebook nothing ends them but we."""

    class Mistaken(MicroData):
        def to_input(self, batch):
            begun.extend(multiprocessing.active_children())
            raise TypeError("a mistake")

    before, begun = multiprocessing.active_children(), []
    data = Mistaken(micro_data().train, micro_data().train)
    keys = Subset(data.train, [(0, index) for index in range(9)])
    options = {"batch_size": 2, "num_workers": 2, "group": ONE_PROCESS}
    recorder = Recorder(None, logging.getLogger("mistaken"))
    with pytest.raises(TypeError) as error:
        if command == "training":
            recipe = micro_recipe(num_workers=2)
            fit(
                micro_state(),
                data,
                recipe,
                group=ONE_PROCESS,
                recorder=recorder,
                stop=StopRequest(),
            )
        elif command == "evaluation":
            evaluate(micro_network(), keys, data.to_input, amp="none", **options)
        else:
            list(batches_of_data(keys, data, **options))
    assert len(begun) == len(before) + 2
    assert multiprocessing.active_children() == before
    assert error.value.__traceback__ is not None
