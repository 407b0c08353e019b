"""The choice between implementations."""

from dataclasses import replace

import pytest
import torch

from benchmark.reference.kernel_case import Case, spike_problems
from model import Execution, build_model, kernel
from model.functional import Neuron, lif_steps
from model.kernel import Fired, Maps, Normalisation, Source, compiled, reference
from tests.support.kernel_problems import all_backward_problems, fire_problems

CASES = [
    Case("soft detached", "identity"),
    Case("soft", "normed", channels_last=False, dtype=torch.float64),
    Case("hard", "identity", constant=True, dtype=torch.bfloat16),
]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_agree(case, backend):
    def fire(source, neuron, T, *, compact=False, sums=True):
        fired = kernel.fire(source, neuron, T, Execution(backend, sparse=compact))
        return fired if sums else Fired(fired.train)

    def fire_backward(*arguments):
        return kernel.fire_backward(*arguments, Execution(backend))

    assert fire_problems(case, fire) == []
    assert all_backward_problems(case, fire_backward) == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_spikes_of_inference(case):
    def fire(source, neuron, T, *, sums):
        return Fired(kernel.spikes(source.current.values, neuron, T))

    plain = replace(case, residual="none", normed=False)
    assert spike_problems(plain, fire) == []


class Halving(Neuron):
    """A spike halves the potential, and gradients ignore it."""

    def reset(self, v, spikes):
        return v - v * spikes / 2

    def next_sensitivity(self, f, v, g, spikes):
        return 1 + self.decay * f


@pytest.mark.parametrize("backend", ["auto", "compiled", "reference"])
def test_a_reset_of_ones_own_holds_on_every_backend(backend, monkeypatch):
    monkeypatch.setattr(compiled, "UNCOMPILED", {"cpu"})
    neuron, source = Halving(0.9), Source(Maps(torch.rand(4, 2, 5, 3, 3)))
    expected = lif_steps(source.current.values.unbind(), neuron)
    fired = kernel.fire(source, neuron, 4, Execution(backend))
    assert torch.equal(fired.train, torch.stack(expected[0]))
    assert torch.equal(fired.eligibility, expected[2])
    assert torch.equal(kernel.spikes(source.current.values, neuron, 4), fired.train)
    assert not torch.equal(kernel.spikes(source.current.values, Neuron(0.9), 4), fired.train)


def test_batch_norm_away_from_its_mean_is_the_general_one_on_every_backend():
    """Where y is not the time mean of what the statistics saw, or its batch is one of several."""
    grad, y = torch.rand(2, 2, 5, 4, 4)
    norm = Normalisation(*torch.rand(3, 5), from_batch=True)
    shared = norm._replace(average=lambda values: values / 2)
    for of, is_mean in ((norm, False), (shared, True)):
        own = kernel.fire_backward(grad, None, y, of, True, Execution("auto"), is_mean=is_mean)
        expected = reference.fire_backward(grad, None, y, of, True)
        assert all(map(torch.equal, own, expected))


def build(**execution):
    options = {"num_classes": 3, "T": 2, "width": 4, "branch_pool": None, "method": "rate"}
    return build_model("resnet18", execution=Execution(**execution), **options)


def test_environment_variable_decides_where_nothing_else_does(monkeypatch):
    monkeypatch.setenv("SPIKING_KERNEL", "reference")
    assert build().execution.backend == "reference"
    assert build(backend="compiled").execution.backend == "compiled"


def test_unknown_choices_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="unknown backend 'fast': choose one of auto, compiled"):
        build(backend="fast")
    for wrong in (torch.int8, torch.float8_e4m3fn, "bfloat16"):
        with pytest.raises(ValueError, match=r"must be None or one of torch\.bfloat16, .*, got "):
            build(convolution_backward=wrong)
    monkeypatch.setenv("SPIKING_KERNEL", "quick")
    with pytest.raises(ValueError, match="unknown SPIKING_KERNEL 'quick'"):
        build()


def test_networks_agree_on_logits_and_gradients():
    """The same network on every backend that needs no compiler, in float64."""
    x, results = torch.randn(2, 3, 8, 8, dtype=torch.float64), {}
    for backend in ("auto", "reference"):
        torch.manual_seed(0)
        net = build(backend=backend).double()
        (logits,) = net(x)
        logits.square().sum().backward()
        results[backend] = [logits, *(p.grad for p in net.parameters())]
    torch.testing.assert_close(results["auto"], results["reference"], rtol=1e-9, atol=1e-11)
