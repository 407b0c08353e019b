"""A step that is not finite moves nothing, and the host hears of it: at once or a step later."""

import math
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from benchmark.reference.recording import record_here
from experiment.train.failure import NonFiniteError
from experiment.train.graph import graphed_move
from experiment.train.loop import choose_step
from experiment.train.step import take_step
from experiment.train.update import Update
from tests.fault.micro_run import digest
from tests.support.micro_training import (
    LOSS,
    ONE_PROCESS,
    micro_context,
    micro_images,
    micro_recipe,
    micro_state,
    take_steps,
)
from util.process.distributed import Group


def batches_of(count, size):
    return list(DataLoader(micro_images(count, seed=5), batch_size=size))


def spoil_loss(net):
    branch = net.branches[0].classifier
    return branch.register_forward_hook(lambda module, inputs, logits: logits * math.nan)


def spoil_gradient(net, value):
    parameter = net.get_parameter("classifier.0.weight")
    return parameter.register_hook(lambda gradient: torch.full_like(gradient, value))


def spoil_two_gradients(net):
    """Each has a norm; that of both is beyond fp32."""

    def large(gradient):
        found = torch.zeros_like(gradient)
        found.view(-1)[0] = 1.5e19
        return found

    handles = ExitStack()
    for name in ("classifier.0.weight", "classifier.0.bias"):
        handles.callback(net.get_parameter(name).register_hook(large).remove)
    return SimpleNamespace(remove=handles.close)


def what_moves(state):
    """A digest of what an update changes; a forward pass alone moves running statistics."""
    weights = [parameter.detach() for parameter in state.net.parameters()]
    return digest([weights, state.optimizer.state_dict()])


def eager(context):
    return choose_step(context, micro_recipe(), 4)


def graphed(context):
    return partial(take_step, context, move=graphed_move(context, 4, record_here([])))


def accumulated(context):
    """By parts, of which a step here has one."""
    return choose_step(context, micro_recipe(accum=2), 4)


SPOILS = [
    (spoil_loss, "hard loss"),
    (partial(spoil_gradient, value=math.nan), "gradient of classifier.0.weight"),
    (partial(spoil_gradient, value=-math.inf), "gradient of classifier.0.weight"),
    (partial(spoil_gradient, value=1e30), "gradient of classifier.0.weight"),
    (spoil_two_gradients, "norm of the gradient"),
]


@pytest.mark.parametrize(("optim", "clip_norm"), [("SGDM", None), ("Adam", None), ("SGDM", 0.01)])
@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize("kind", [eager, graphed, accumulated])
@pytest.mark.parametrize(("spoil", "term"), SPOILS)
def test_what_is_not_finite_is_named_and_moves_nothing(
    spoil, term, kind, runs_ahead, optim, clip_norm
):
    """Nor does the step that has begun when the host hears of it."""
    state = micro_state(micro_recipe(optim=optim))
    context = micro_context(state, runs_ahead=runs_ahead, clip_norm=clip_norm)
    step, batches = kind(context), batches_of(4, 4)
    take_steps(step, batches)
    before = what_moves(state)
    spoiling = spoil(state.net)
    if runs_ahead:
        take_steps(step, batches)  # not heard of yet
        spoiling.remove()
    with pytest.raises(NonFiniteError, match=f"epoch 0, step 1: the {term} is not finite") as error:
        take_steps(step, batches)
    assert what_moves(state) == before
    assert error.value.step == 1


@pytest.mark.parametrize("optim", ["SGDM", "Adam"])
def test_the_first_step_may_be_the_bad_one(optim):
    """When the optimizer has no state yet; also behind a checkpoint that was saved before it."""
    state = micro_state(micro_recipe(optim=optim))
    state.load_state_dict(micro_state(micro_recipe(optim=optim)).state_dict())
    context = micro_context(state, runs_ahead=True)
    weights = [p.detach().clone() for p in state.net.parameters()]
    spoil_gradient(state.net, math.nan)
    take_steps(eager(context), batches_of(4, 4))
    with pytest.raises(NonFiniteError, match="step 0"):
        context.update.settle()
    assert all(map(torch.equal, weights, state.net.parameters()))
    for own in state.optimizer.state.values():
        assert all(value.count_nonzero() == 0 for value in own.values())


@pytest.mark.parametrize("term", ["hard", "soft"])
def test_a_loss_is_looked_at_beside_its_gradients(term):
    """Which may be finite by themselves."""
    state = micro_state()
    context, before = micro_context(state, runs_ahead=True), what_moves(state)
    for parameter in state.net.parameters():
        parameter.grad = torch.ones_like(parameter)
    finite = LOSS([torch.zeros(4, 5)], torch.arange(4), 1.0)
    bad = torch.tensor(math.inf)
    context.update(finite._replace(total=bad, **{term: bad}))
    context.count_step()
    with pytest.raises(NonFiniteError, match=f"step 0: the {term} loss is not finite"):
        context.update.settle()
    assert what_moves(state) == before


class BesideABadProcess(Group):
    """A group in which another process has found something."""

    def largest(self, values):
        return torch.ones_like(values)


def test_what_another_process_finds_stops_this_one():
    state = micro_state()
    update = Update(state.net, state.optimizer, BesideABadProcess(*ONE_PROCESS))
    before = what_moves(state)
    with pytest.raises(NonFiniteError, match="step 0: another process found"):
        take_steps(eager(replace(micro_context(state), update=update)), batches_of(4, 4))
    assert what_moves(state) == before


def test_all_is_well_after_waiting():
    """Waiting before a checkpoint neither raises nor forgets the step after it."""
    state = micro_state()
    context = micro_context(state, runs_ahead=True)
    take_steps(eager(context), batches_of(8, 4))
    context.update.settle()
    context.update.settle()
    spoil_loss(state.net)
    take_steps(eager(context), batches_of(4, 4))
    with pytest.raises(NonFiniteError, match="step 2"):
        context.update.settle()


def test_suspended_an_update_moves_nothing_and_then_goes_on():
    state = micro_state()
    context = micro_context(state, runs_ahead=True)
    before = what_moves(state)
    with context.update.suspended():
        take_steps(eager(context), batches_of(4, 4))
        context.update.heard = None
    assert what_moves(state) == before
    take_steps(eager(context), batches_of(4, 4))
    context.update.settle()
    assert what_moves(state) != before


@pytest.mark.parametrize(
    ("kind", "method"),
    [*((kind, "esd") for kind in (eager, graphed, accumulated)), (eager, "sltt")],
)
def test_a_gradient_is_scaled_down_to_its_limit(kind, method):
    """That of all parameters together, branches too; one below the limit stays as it is."""

    def gradients_of_a_step(clip_norm):
        state = micro_state(micro_recipe(wd=0.0), method)
        take_steps(kind(micro_context(state, clip_norm=clip_norm)), batches_of(4, 4))
        parameters = dict(state.net.named_parameters())
        for parameter in parameters.values():  # momentum after the first step: what moved it
            assert state.optimizer.state[parameter]["momentum_buffer"].equal(parameter.grad)
        return {name: p.grad.double() for name, p in parameters.items()}, what_moves(state)

    plain, moved = gradients_of_a_step(None)
    norm = math.sqrt(sum(float(g.square().sum()) for g in plain.values()))
    if method == "esd":
        assert any(g.any() for name, g in plain.items() if name.startswith("branches"))
    same, moved_the_same = gradients_of_a_step(2 * norm)
    assert moved_the_same == moved
    clipped, moved_less = gradients_of_a_step(norm / 3)
    assert moved_less != moved
    for name, gradient in plain.items():
        assert same[name].equal(gradient)
        torch.testing.assert_close(clipped[name], gradient / 3, rtol=1e-5, atol=1e-9)
