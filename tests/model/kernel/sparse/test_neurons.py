"""Neurons that write bytes: the spikes and potentials of the equations, bit for bit.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

import pytest
import torch

from benchmark.reference.kernel_case import cases, forward_problems
from model.functional import Neuron, lif_rate
from model.kernel.record import Maps, Source, firing
from model.kernel.sparse import neurons
from tests.support.compiler import needs_compiler

pytestmark = [needs_compiler, pytest.mark.usefixtures("operators")]
T = 3
NEURONS = [Neuron(), Neuron(0.6, 0.8, 0.0), Neuron(1.0, 1.3, -0.4), Neuron(0.0)]
CASES = list(cases((torch.float64, torch.float32)))
SHAPES = [(2, 5, 7, 9), (4, 8, 16, 33), (3, 11), (0, 4, 2, 2)]


def maps(shape, dtype, layout, *, steps=T, seed=0):
    """(steps, B, C, ...), each step laid out as asked for."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(steps * shape[0], *shape[1:], generator=generator, dtype=dtype)
    if len(shape) == 4:
        found = found.contiguous(memory_format=layout)
    return found.unflatten(0, (steps, -1)) if shape[0] else found.view(steps, *shape)


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spikes_are_those_of_the_equations(shape, dtype, layout, neuron):
    """With and without a residual, of numbers or bytes, each constant in time or not."""
    numbers = {steps: maps(shape, dtype, layout, steps=steps, seed=1) for steps in (1, T)}
    residuals = [None, *numbers.values(), *((m > 0.5).to(torch.uint8) for m in numbers.values())]
    for steps in (1, T):
        current = maps(shape, dtype, layout, steps=steps)
        for residual in residuals:
            train, _ = neurons.fire(current, neuron, T, residual=residual)
            x = current if residual is None else current + residual.to(dtype)
            expected, _, _ = lif_rate(x.expand(T, *shape), *neuron)
            assert train.dtype == torch.uint8 and train.to(dtype).equal(expected)
            if len(shape) == 4 and shape[0]:
                assert train[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_step_by_step_potentials_carry_on(neuron):
    current = maps(SHAPES[0], torch.float32, torch.channels_last)
    train, last = neurons.fire(current, neuron, T)
    potential = None
    for t in range(T):
        before = None if potential is None else potential.clone()
        spikes, after = neurons.fire(current[t : t + 1], neuron, 1, potential=potential)
        assert spikes[0].equal(train[t])
        assert before is None or potential.equal(before)  # which stays the caller's
        potential = after
    assert potential.equal(last)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("channels", [61, 64])
def test_many_blocks_and_threads(channels, layout, threads):
    """Channels that begin anew at each block, or never; parts that end between two registers."""
    generator = torch.Generator().manual_seed(1)
    scale, shift = torch.rand(2, channels, generator=generator)
    values = maps((3, channels, 41, 41), torch.float32, layout)
    source = Source(Maps(values, 1 + scale, shift))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        fired = firing(neurons.fill)(source, Neuron(), T, spike_dtype=torch.uint8)
    finally:
        torch.set_num_threads(before)
    x = values * (1 + scale).view(-1, 1, 1) + shift.view(-1, 1, 1)
    train, rate, eligibility = lif_rate(x, *Neuron())
    assert fired.train.float().equal(train) and fired.rate.equal(rate)
    assert fired.counts.equal(train.sum(0).to(torch.uint8))
    torch.testing.assert_close(fired.eligibility, eligibility)


def test_what_can_fire():
    class Other(Neuron):
        pass

    current = torch.randn(T, 2, 3)
    assert neurons.can_fire(current, Neuron())
    assert not neurons.can_fire(current, Other())
    assert not neurons.can_fire(current.to("meta"), Neuron())
    assert not neurons.can_fire(current.to(torch.bfloat16), Neuron())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_training_needs_of_them(case):
    """Normalised currents, all kinds of residuals, sums for the gradient: against the truth."""
    assert forward_problems(case, firing(neurons.fill), spike_dtype=torch.uint8) == []


@pytest.mark.parametrize("neuron", NEURONS[:2], ids=str)
def test_what_is_no_number_stays_none(neuron):
    """And potentials of any size have a surrogate gradient, of which nothing is left."""
    x = torch.full((1, 2, 3, 50), 1e30)
    x[..., ::7], x[..., 1::7] = torch.nan, -1e30
    fired = firing(neurons.fill)(Source(Maps(x)), neuron, 2, spike_dtype=torch.uint8)
    assert fired.eligibility.isnan().equal(x[0].isnan())
    assert fired.eligibility.nan_to_num().abs().max() < 1e-30
    assert fired.train.equal((x > 0).to(torch.uint8).expand(2, -1, -1, -1))


def test_what_can_fill():
    """Spikes as bytes, of neurons, and no residual that is normalised where the current is not."""
    maps, values = torch.randn(T, 2, 3), torch.ones(3)
    plain, normalised = Maps(maps), Maps(maps, values, values)
    kinds = {
        (plain, plain): True,
        (normalised, normalised): True,
        (normalised, plain): True,
        (plain, normalised): False,
    }
    for (current, residual), can in kinds.items():
        source = Source(current, residual)
        found = source.new_fired(Neuron(), T, torch.uint8, True)
        assert neurons.can_fill(source, Neuron(), found) == can
    source = Source(plain)
    assert not neurons.can_fill(source, None, source.new_fired(None, T, torch.uint8, True))
    assert not neurons.can_fill(source, Neuron(), source.new_fired(Neuron(), T, None, True))
    half = Source(Maps(maps.bfloat16()))
    assert not neurons.can_fill(half, Neuron(), half.new_fired(Neuron(), T, torch.uint8, True))


def test_operator_keeps_its_promises_and_refuses_what_does_not_fit():
    run, good = torch.ops.spiking_cpu.fire, arguments()
    torch.library.opcheck(run, tuple(good.values()), test_utils="test_schema")
    wrong = {
        "no train": {"train": torch.zeros(6, 5)},
        "the current": {"current": torch.randn(5, 5)},
        "the residual": {"residual": torch.randn(3, 5)},
        "a map of the neurons": {"potential": torch.zeros(64)[:1].expand(2, 5)},
        "the values of the channels": {"scale": torch.ones(4), "shift": torch.ones(4)},
        "scale and shift": {"scale": torch.ones(5)},
        "rate and eligibility": {"rate": torch.zeros(2, 5)},
    }
    for message, changes in wrong.items():
        with pytest.raises(RuntimeError, match=message):
            run(*(good | changes).values())


def arguments():
    """Of the operator: three time steps of two samples and five channels."""
    nothing = dict.fromkeys(("mean", "rate", "eligibility", "counts"))
    return {
        "current": torch.randn(6, 5),
        **dict.fromkeys(("scale", "shift", "residual", "residual_scale")),
        "run": 1,
        "at_rest": True,
        "train": torch.zeros(6, 5, dtype=torch.uint8),
        "potential": torch.zeros(2, 5),
        **nothing,
        "T": T,
        "decay": 0.2,
        "threshold": 1.0,
        "v_reset": None,
        "detach_reset": True,
    }
