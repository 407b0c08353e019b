import pytest
import torch
from torch import Tensor, nn

from model import build_model
from model.batch_norm import (
    SynchronisedBatchNorm2d,
    normalise,
    statistics_in_training,
    synchronise,
)


class Alone:
    """One process that takes part in an average of one."""

    world_size = 1

    @staticmethod
    def mean(values: Tensor) -> Tensor:
        return values


def fresh_norm(channels: int = 5) -> nn.BatchNorm2d:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(channels).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    return norm


def maps(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 + torch.randn(7, 5, 3, 4, dtype=torch.float64, generator=generator)


def test_one_process_gets_torch_s_batch_norm():
    plain, ours = fresh_norm(), SynchronisedBatchNorm2d(fresh_norm(), Alone())
    weights = maps(seed=2)
    results = []
    for norm in (plain, ours):
        x = maps().requires_grad_()
        out = norm(x)
        (out * weights).sum().backward()
        gradients = (x.grad, norm.weight.grad, norm.bias.grad)
        results.append((out, *gradients, norm.running_mean, norm.running_var))
    for theirs, mine in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)
    assert plain.num_batches_tracked == ours.num_batches_tracked == 1


def test_gradients_by_finite_differences():
    norm = SynchronisedBatchNorm2d(fresh_norm(2), Alone())

    def normalise(x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        return torch.func.functional_call(norm, {"weight": gamma, "bias": beta}, (x,))

    x = maps()[:3, :2].contiguous().requires_grad_()
    gamma, beta = (p.detach().clone().requires_grad_() for p in norm.parameters())
    assert torch.autograd.gradcheck(normalise, (x, gamma, beta))


def test_evaluation_uses_the_running_statistics():
    norm = fresh_norm()
    norm.running_mean.normal_()
    ours = SynchronisedBatchNorm2d(norm, Alone()).eval()
    assert ours(maps()).equal(norm.eval()(maps()))


@pytest.mark.parametrize("repeats", [1, 4])
def test_running_statistics_count_every_time_step(repeats):
    """A map that stands for T time steps counts T times in the unbiased variance."""
    norm, expected = fresh_norm(), fresh_norm()
    statistics_in_training(norm, maps(), repeats)
    expected(maps().repeat(repeats, 1, 1, 1))
    torch.testing.assert_close(norm.running_mean, expected.running_mean, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(norm.running_var, expected.running_var, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("synchronised", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_maps_that_stand_for_several_steps_are_normalised_as_if_repeated(training, synchronised):
    """Each time step has a gradient of its own; those of a map add up."""
    weights = torch.randn(3, *maps().shape, dtype=torch.float64)
    results = []
    for repeats in (1, 3):
        norm = fresh_norm().train(training)
        norm = SynchronisedBatchNorm2d(norm, Alone()) if synchronised else norm
        x = maps().requires_grad_()
        if repeats == 1:
            out = norm(torch.cat([x] * 3)).unflatten(0, (3, -1))
        else:
            out = normalise(norm, x, repeats)[None]
        (out * weights).sum().backward()
        statistics = norm.running_mean, norm.running_var, norm.num_batches_tracked
        results.append((out[0], x.grad, norm.weight.grad, norm.bias.grad, *statistics))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_a_second_derivative_is_refused():
    """It would lack what flows through the statistics."""
    x = maps().requires_grad_()
    out = SynchronisedBatchNorm2d(fresh_norm(), Alone())(x).square().sum()
    (gradient,) = torch.autograd.grad(out, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("synchronised", [False, True])
def test_compiled_it_has_the_same_gradients(synchronised):
    found = []
    for run in (normalise, torch.compile(normalise, backend="eager")):
        norm = fresh_norm()
        if synchronised:
            norm = SynchronisedBatchNorm2d(norm, Alone())
        x = maps().requires_grad_()
        (run(norm, x, 3) * maps().square()).sum().backward()
        found.append([x.grad, norm.weight.grad, norm.bias.grad, norm.running_var])
        assert x.grad.norm() > 0
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)


def test_a_still_map_of_one_value_is_several_over_time():
    x = maps()[:1, :, :1, :1]
    found = []
    for norm, repeats, values in ((fresh_norm(), 4, x), (fresh_norm(), 1, x.repeat(4, 1, 1, 1))):
        found.append((normalise(norm, values, repeats)[:1], norm.running_mean, norm.running_var))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)


def test_one_value_per_channel_is_refused():
    with pytest.raises(ValueError, match="more than one value per channel"):
        statistics_in_training(fresh_norm(), maps()[:1, :, :1, :1])


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
