"""Batch norms of maps that stand for several time steps, of one process and of several."""

import pytest
import torch
from torch import Tensor, nn

from model import build_model
from model.batch_norm import SynchronisedBatchNorm2d, normalise, synchronise


class Alone:
    """One process that takes part in an average of one."""

    world_size = 1

    @staticmethod
    def mean(values: Tensor) -> Tensor:
        return values


def fresh_norm() -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(5).double()
    with torch.no_grad():
        for value in (norm.weight, norm.bias, norm.running_mean):
            value.normal_()
        norm.running_var.uniform_(0.5, 2)
    return norm


def maps(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 3 + torch.randn(shape, dtype=torch.float64, generator=generator)


WAYS = {"one process": False, "several processes": True}
RUNS = {"eager": normalise, "compiled": torch.compile(normalise, backend="eager")}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("synchronised", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("shape", "repeats"), [((7, 5, 3, 4), 1), ((7, 5, 3, 4), 4), ((1, 5), 4)])
def test_is_torch_s_batch_norm_of_the_repeated_maps(run, synchronised, training, shape, repeats):
    """Values, all gradients, running statistics; each time step has a gradient of its own."""
    weights = maps(repeats, *shape, *(1,) * (4 - len(shape)))
    found = []
    for own in (True, False):
        norm = fresh_norm().train(training)
        x = maps(*weights.shape[1:]).requires_grad_()
        if own:
            norm = SynchronisedBatchNorm2d(norm, Alone()) if synchronised else norm
            out = run(norm, x, repeats)[None]
        else:
            out = norm(torch.cat([x] * repeats)).unflatten(0, (repeats, -1))
        (out * weights).sum().backward()
        found.append([out[0], x.grad, norm.weight.grad, norm.bias.grad, *norm.buffers()])
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-11)


def test_a_second_derivative_is_refused():
    """It would lack what flows through the statistics."""
    x = maps(7, 5, 3, 4).requires_grad_()
    out = SynchronisedBatchNorm2d(fresh_norm(), Alone())(x).square().sum()
    (gradient,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_one_value_per_channel_is_refused():
    """By a layer alone, and deep in a network whose images shrink to one pixel."""
    with pytest.raises(ValueError, match="more than one value per channel to train, got one"):
        normalise(fresh_norm(), maps(1, 5, 1, 1))
    net = build_model("resnet18", num_classes=3, T=1, width=4, branch_pool=None, method="rate")
    with pytest.raises(ValueError, match="more than one value per channel to train, got one"):
        net(torch.randn(1, 3, 8, 8))


def test_every_batch_norm_is_replaced_and_the_state_keeps_its_names():
    net = build_model("preact_resnet18", num_classes=3, T=2, width=4)
    before = {name: value.data_ptr() for name, value in net.state_dict().items()}
    parameters = [name for name, _ in net.named_parameters()]
    synchronise(net, Alone())
    assert {name: value.data_ptr() for name, value in net.state_dict().items()} == before
    assert [name for name, _ in net.named_parameters()] == parameters
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 30
    assert all(isinstance(norm, SynchronisedBatchNorm2d) for norm in norms)
