"""The choice between implementations."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmark.reference.kernel_case import Case, changed, spike_problems
from model import Execution, build_model, kernel
from model.functional import Neuron, lif_steps
from model.kernel import Fired, Maps, Normalisation, Source, compiled, reference
from tests.support.kernel_problems import all_backward_problems, fire_problems

CASES = [
    Case("soft detached", "identity"),
    Case("soft", "normed", channels_last=False, dtype=torch.float64),
    Case("hard", "identity", constant=True, dtype=torch.bfloat16),
    Case("soft", "normed", dtype=torch.float16),
]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backends_agree(case, backend):
    def fire(source, neuron, T, *, spike_dtype=None, sums=True):
        sparse = spike_dtype == torch.uint8
        execution = Execution(backend, convolution_forward=spike_dtype, sparse=sparse)
        fired = kernel.fire(source, neuron, T, execution)
        return fired if sums else Fired(fired.train)

    def fire_backward(*arguments, dtype):
        return kernel.fire_backward(*arguments, Execution(backend), dtype=dtype)

    assert fire_problems(case, fire) == []
    assert all_backward_problems(case, fire_backward) == []


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_kept_is_summed_in_fp32_and_rounded_once(dtype, backend):
    """Without neurons the mean current is not rounded: the rate is computed from it."""
    low = Case("soft", "normed", dtype=dtype, shape=(9, 2, 5, 7, 9)).source()
    for neuron in (Neuron(0.3), None):
        own, wide = (
            kernel.fire(source, neuron, 9, Execution(backend))
            for source in (low, changed(low, Tensor.float))
        )
        stored = torch.float32 if neuron is None else dtype
        assert own.mean_current.equal(wide.mean_current.to(stored))
        if neuron is not None:
            assert own.eligibility.equal(wide.eligibility.to(stored))
            assert own.rate.dtype == torch.float32 and own.rate.equal(wide.rate)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("T", [1, 255, 256])
def test_spikes_are_counted_in_bytes_as_long_as_one_holds_them(T, backend):
    current = torch.tensor([0.0, 0.4, 0.6, 2.0]).view(1, 1, 4, 1, 1)
    fired = kernel.fire(Source(Maps(current)), Neuron(0.5), T, Execution(backend))
    total = fired.train.sum(0)
    assert total.max() == T
    assert fired.counts is None if T > 255 else fired.counts.equal(total.to(torch.uint8))
    assert kernel.fire(Source(Maps(current)), None, T, Execution(backend)).counts is None


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
    for name in ("convolution_forward", "convolution_backward"):
        for wrong in (torch.int8, torch.float8_e4m3fn, "bfloat16"):
            expected = rf"{name} must be None or one of torch\.bfloat16, .*, got "
            with pytest.raises(ValueError, match=expected):
                build(**{name: wrong})
    with pytest.raises(ValueError, match=r"torch\.float16 needs a convolution_backward, such as"):
        build(convolution_forward=torch.float16)
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
