"""A state goes on exactly where it was taken, and refuses what it is not."""

import pytest
import torch

from benchmark.fault.micro_run import digest
from experiment.engine import train_one_epoch
from experiment.gradient_pass import gradient_pass
from model.distillation import SelfDistillationLoss
from tests.support.micro_training import ONE_PROCESS, micro_data, micro_images, micro_recipe
from tests.support.micro_training import micro_state as new_state
from util.checkpoint import load_checkpoint, save_checkpoint


def train(state, batches):
    run = gradient_pass(state, SelfDistillationLoss(0.7, 0.3), micro_recipe(), ONE_PROCESS)
    for _ in train_one_epoch(state, batches, run, micro_data().to_input, ONE_PROCESS):
        pass


def batches(seed):
    images, labels = micro_images(8, seed=seed).tensors
    return [(images[:5], labels[:5]), (images[5:], labels[5:])]


@pytest.mark.parametrize("optim", ["SGDM", "Adam"])
def test_a_restored_state_trains_on_exactly(optim, tmp_path):
    recipe = micro_recipe(optim=optim, lr=0.01, num_epoch=4)
    state = new_state(recipe)
    train(state, batches(1))
    state.best = {"epoch": 0, "top1": 12.5}
    state.next_epoch()
    train(state, batches(2)[:1])
    state.lines = 1
    save_checkpoint(state.state_dict(), tmp_path / "last.pt")
    taken = digest(state.state_dict())

    restored = new_state(recipe)
    torch.manual_seed(99)
    restored.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
    assert restored.place == "epoch 1, step 1"
    assert digest(restored.state_dict()) == taken

    generators = torch.get_rng_state()
    train(state, batches(2)[1:])
    state.next_epoch()
    train(state, batches(3))
    torch.set_rng_state(generators)
    train(restored, batches(2)[1:])
    restored.next_epoch()
    train(restored, batches(3))
    assert digest(restored.state_dict()) == digest(state.state_dict())


def test_every_part_of_the_state_counts():
    """The digest that other tests compare notices the smallest change of any part."""
    state = new_state()
    train(state, batches(1))
    before = digest(state.state_dict())
    weight = next(iter(state.net.parameters()))
    buffer = next(iter(state.optimizer.state.values()))["momentum_buffer"]
    for tensor in (weight.data, buffer, state.means._sums["total"]):
        element = tensor.view(-1)[0].clone()
        tensor.view(-1)[0] = torch.nextafter(element, element + 1)
        assert digest(state.state_dict()) != before
        tensor.view(-1)[0] = element
    assert digest(state.state_dict()) == before
    torch.rand(1)
    assert digest(state.state_dict()) != before


def test_other_arguments_are_named_and_nothing_is_loaded():
    state, other = new_state(), new_state()
    other.arguments = {"T": 4, "lr": 0.1}
    train(other, batches(1))
    before = digest(state.state_dict())
    with pytest.raises(ValueError) as refusal:
        state.load_state_dict(other.state_dict())
    for part in ("T 4 (asked for: 3)", "arch None (asked for: 'x')", "lr 0.1 (asked for: None)"):
        assert part in str(refusal.value)
    assert digest(state.state_dict()) == before


def test_switches_that_a_saved_run_does_not_know_were_at_their_defaults():
    state, older = new_state(), new_state()
    state.arguments = {**older.arguments, "sparse": False, "tf32": True}
    state.load_state_dict(older.state_dict())
    state.arguments = {**older.arguments, "sparse": True}
    with pytest.raises(ValueError, match=r"sparse False \(asked for: True\)"):
        state.load_state_dict(older.state_dict())


def test_another_kind_of_file_is_refused():
    with pytest.raises(ValueError, match="no state of a training run"):
        new_state().load_state_dict({"model": {}})


def test_a_network_that_was_built_otherwise_is_refused():
    content = new_state().state_dict()
    content["model"] = new_state(method="rate").net.state_dict()
    with pytest.raises(ValueError, match="weights do not fit the network"):
        new_state().load_state_dict(content)
