"""A state goes on exactly where it was taken, and refuses what it is not."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from experiment.train.step import take_step
from tests.fault.micro_run import digest
from tests.support.micro_training import (
    micro_context,
    micro_images,
    micro_recipe,
    micro_state,
    take_steps,
)
from util.checkpoint import load_checkpoint, save_checkpoint


def train(state, batches):
    take_steps(partial(take_step, micro_context(state)), batches)


def batches(seed):
    images, labels = micro_images(8, seed=seed).tensors
    return [(images[:5], labels[:5]), (images[5:], labels[5:])]


@pytest.mark.parametrize(("optim", "ema"), [("SGDM", None), ("Adam", None), ("SGDM", 0.5)])
def test_a_restored_state_trains_on_exactly(optim, ema, tmp_path):
    recipe = micro_recipe(optim=optim, lr=0.01, num_epoch=4, ema=ema)
    state = micro_state(recipe)
    train(state, batches(1))
    state.best = {"epoch": 0, "top1": 12.5}
    state.next_epoch()
    train(state, batches(2)[:1])
    state.lines = 1
    save_checkpoint(state.state_dict(), tmp_path / "last.pt")

    restored = micro_state(recipe)
    torch.manual_seed(99)
    restored.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
    assert restored.place == "epoch 1, step 1"
    assert digest(restored.state_dict()) == digest(state.state_dict())

    generators, ends = torch.get_rng_state(), []
    for one in (state, restored):
        torch.set_rng_state(generators)
        train(one, batches(2)[1:])
        one.next_epoch()
        train(one, batches(3))
        ends.append(digest(one.state_dict()))
    assert ends[0] == ends[1]


def test_every_part_of_the_state_counts():
    """The digest that other tests compare notices the smallest change of any part."""
    state = micro_state(micro_recipe(ema=0.5))
    train(state, batches(1))
    before = digest(state.state_dict())
    weight = next(iter(state.net.parameters()))
    buffer = next(iter(state.optimizer.state.values()))["momentum_buffer"]
    averaged = next(iter(state.average.net.buffers()))
    for tensor in (weight.data, buffer, state.means._sums["total"], averaged):
        element = tensor.view(-1)[0].clone()
        tensor.view(-1)[0] = torch.nextafter(element, element + 1)
        assert digest(state.state_dict()) != before
        tensor.view(-1)[0] = element
    assert digest(state.state_dict()) == before
    torch.rand(1)
    assert digest(state.state_dict()) != before


def test_other_arguments_are_refused_and_nothing_is_loaded():
    state, other = micro_state(), micro_state()
    other.arguments = {"T": 4, "arch": "x"}
    train(other, batches(1))
    before = digest(state.state_dict())
    with pytest.raises(ValueError, match=r"T 4 \(asked for: 3\)"):
        state.load_state_dict(other.state_dict())
    assert digest(state.state_dict()) == before


def states(num_epoch, optim="SGDM"):
    """A training that was asked for so many epochs."""
    state = micro_state(micro_recipe(optim=optim, lr=0.01, num_epoch=num_epoch, ema=0.5))
    state.arguments["num_epoch"] = num_epoch
    return state


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("optim", ["SGDM", "Adam"])
def test_with_more_epochs_the_schedule_is_that_of_a_training_that_had_them(optim, steps):
    """From the end of a finished training, where the rate is 0, or the middle of an epoch."""
    rates, longer = [], states(5, optim)
    for _ in range(5):
        rates.append(longer.scheduler.get_last_lr()[0])
        longer.next_epoch()

    state = states(2, optim)
    for seed in range(2 - steps):
        train(state, batches(seed))
        state.next_epoch()
    train(state, batches(2)[:steps])
    extended, by_hand = states(5, optim), states(2, optim)
    for one in (extended, by_hand):
        one.load_state_dict(deepcopy(state.state_dict()))
    for epoch in range(state.epoch, 5):
        assert extended.scheduler.get_last_lr() == [rates[epoch]] * 2
        for group in by_hand.optimizer.param_groups:
            group["lr"] = rates[epoch]
        for one in (extended, by_hand):
            train(one, batches(epoch))
            one.next_epoch()
    for part in ("model", "ema"):
        assert digest(extended.state_dict()[part]) == digest(by_hand.state_dict()[part])


@pytest.mark.parametrize(("steps", "asked"), [(0, 1), (1, 2)])
def test_epochs_that_have_begun_are_not_taken_back(steps, asked):
    state = states(4)
    state.next_epoch()
    state.next_epoch()
    train(state, batches(1)[:steps])
    begun = 2 + steps
    with pytest.raises(ValueError, match=f"begun {begun} epochs, more than --num_epoch {asked}"):
        states(asked).load_state_dict(state.state_dict())
    states(begun).load_state_dict(state.state_dict())


def test_a_state_of_earlier_versions_has_no_average_and_no_times():
    content = micro_state().state_dict()
    assert (content.pop("ema"), content.pop("measured")) == (None, ())
    micro_state().load_state_dict(content)
    averaging = micro_state(micro_recipe(ema=0.5))
    averaging.arguments["ema"] = 0.5
    with pytest.raises(ValueError, match=r"trained with ema none \(asked for: 0.5\)"):
        averaging.load_state_dict(content)


def test_another_file_and_a_network_that_was_built_otherwise_are_refused():
    content = micro_state().state_dict()
    content["model"] = micro_state(method="rate").net.state_dict()
    for saved, words in (
        ({"model": {}}, "no state of a training run"),
        (content, "weights do not fit the network"),
    ):
        with pytest.raises(ValueError, match=words):
            micro_state().load_state_dict(saved)
