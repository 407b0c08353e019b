"""An update is the plain optimizer's: fused, skippable, and without the host on a GPU."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.data import DataLoader

from experiment.train.recipe import make_optimizer
from experiment.train.update import Update, laid_out_like, make_skippable
from model.distillation import DistillationLoss
from tests.support.fused_kernels import FusedKernels
from tests.support.host_copies import HostCopies
from tests.support.micro_training import (
    LOSS,
    ONE_PROCESS,
    micro_context,
    micro_images,
    micro_recipe,
    micro_state,
)
from util.process.distributed import Group


@pytest.mark.parametrize("optim", ["SGDM", "Adam"])
def test_updates_are_those_of_the_plain_optimizer(optim):
    """Through a schedule, from the state of one that was not fused, as in older checkpoints."""
    plain = micro_state(micro_recipe(optim=optim, lr=0.05, num_epoch=4))
    plain.net.double()
    own, losses = None, []
    for _ in range(3):
        losses = [backward(state.net) for state in (plain, own) if state is not None]
        plain.optimizer.step()
        plain.scheduler.step()
        if own is None:
            own = deepcopy(plain)
            update = Update(own.net, own.optimizer, ONE_PROCESS)
            continue
        update(losses[-1])
        own.scheduler.step()
        update.follow_schedule()
    weights = own.net.state_dict()
    for name, value in plain.net.state_dict().items():
        torch.testing.assert_close(weights[name], value, rtol=1e-9, atol=1e-12)
    assert own.optimizer.param_groups[0]["lr"] == plain.optimizer.param_groups[0]["lr"] < 0.05


def test_learning_rates_are_written_where_they_change_alone():
    state = micro_state(micro_recipe(lr=0.5))
    update, written = Update(state.net, state.optimizer, ONE_PROCESS), []
    for factor in (1.0, 0.5, 0.5, 1.0, 1.0):
        update.follow_schedule(factor)
        assert [float(rate) for rate in update.rates] == [0.5 * factor] * 2
        written.append(update.rates[0]._version)
    assert [version - written[0] for version in written] == [0, 1, 1, 2, 2]


def test_adam_counts_its_steps_where_its_weights_are():
    """As a graph wants it; a checkpoint of a step that was not fused has them on the CPU."""
    weight = torch.nn.Parameter(torch.zeros(3, device="meta"))  # stands for a GPU
    adam = torch.optim.Adam([weight])
    adam.state[weight]["step"] = torch.tensor(5.0)
    make_skippable(adam)
    assert adam.state[weight]["step"].device.type == "meta"
    (group,) = adam.param_groups
    assert group["fused"] and group["capturable"]


def test_gradients_and_momenta_get_the_strides_of_their_parameters():
    """Which a GPU's fused kernels insist on, and those of a CPU do not."""
    weight = torch.randn(6, 4, 1, 1).to(memory_format=torch.channels_last)
    assert weight.stride() == (4, 1, 4, 4)
    contiguous = torch.randn(6, 4).unsqueeze(-1).unsqueeze(-1)
    assert contiguous.stride() == (4, 1, 1, 1)
    same = laid_out_like(weight, contiguous)
    assert (same.stride(), same.data_ptr()) == (weight.stride(), contiguous.data_ptr())
    wide = torch.randn(6, 4, 3, 3)
    moved = laid_out_like(wide.to(memory_format=torch.channels_last), wide)
    assert moved.equal(wide) and moved.is_contiguous(memory_format=torch.channels_last)

    state = micro_state()
    state.net.to(memory_format=torch.channels_last)  # the momenta are saved otherwise
    parameters = list(state.net.parameters())
    for p in parameters:
        p.grad = torch.randn(p.shape)
        state.optimizer.state[p]["momentum_buffer"] = torch.zeros(p.shape)
    context = micro_context(state)
    context.update(LOSS([torch.randn(4, 5)], torch.arange(4), 1.0))
    for p in parameters:
        momentum = state.optimizer.state[p]["momentum_buffer"]
        assert p.stride() == p.grad.stride() == momentum.stride()
        assert momentum.count_nonzero() == p.numel()


@pytest.mark.parametrize(("optim", "clip_norm"), [("SGDM", None), ("Adam", 0.5)])
def test_on_a_gpu_an_update_copies_nothing_to_or_from_the_host(optim, clip_norm):
    """No graph can hold that; nor may the first update be another than the later ones."""
    group = Group(0, 1, torch.device("cuda"))
    with FakeTensorMode():
        with torch.device("cuda"):
            weights = [torch.randn(6, 4, k, k) for k in (1, 3)]
            ours = [w.to(memory_format=torch.channels_last) for w in weights]
            net = nn.ParameterList([*map(nn.Parameter, ours), nn.Parameter(torch.randn(6))])
            loss = DistillationLoss(*torch.zeros(4))
        optimizer = make_optimizer(net, micro_recipe(optim=optim))
        update = Update(net, optimizer, group, clip_norm=clip_norm)
        for step in range(1, 4):
            for parameter in net:  # in other strides
                parameter.grad = torch.randn(parameter.shape, device="cuda")
            with HostCopies() as copies, FusedKernels() as fused:
                update.follow_schedule(step / 3)
                update(loss)
                with update.suspended():
                    update(loss)
            assert (copies.found, fused.parameters) == ([], 2 * len(net)), f"step {step}"


def backward(net):
    """Fill the gradients of a batch; returns its loss."""
    images, labels = next(iter(DataLoader(micro_images(4, seed=5), batch_size=4)))
    net.zero_grad()
    loss = LOSS(net(images.double() / 64), labels, 1.0)
    loss.total.backward()
    return loss.detached()
