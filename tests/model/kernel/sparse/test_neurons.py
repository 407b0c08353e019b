"""Neurons that write bytes: the spikes and potentials of the equations, bit for bit.

Shapes: T time steps, B batch, C channels, H x W pixels.
"""

import pytest
import torch

from model.functional import Neuron, lif_rate
from model.kernel.sparse import library, neurons
from tests.support.compiler import needs_compiler

pytestmark = needs_compiler
T = 3
NEURONS = [Neuron(), Neuron(0.6, 0.8, 0.0), Neuron(1.0, 1.3, -0.4), Neuron(0.0)]
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
    assert library.is_available()
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
def test_many_blocks_and_threads(threads):
    current = maps((3, 64, 40, 40), torch.float32, torch.channels_last)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        train, _ = neurons.fire(current, Neuron(), T)
    finally:
        torch.set_num_threads(before)
    assert train.float().equal(lif_rate(current)[0])


def test_what_can_fire():
    class Other(Neuron):
        pass

    current = torch.randn(T, 2, 3)
    assert neurons.can_fire(current, Neuron())
    assert not neurons.can_fire(current, Other())
    assert not neurons.can_fire(current.to("meta"), Neuron())
    assert not neurons.can_fire(current.to(torch.bfloat16), Neuron())


def test_operator_keeps_its_promises_and_refuses_what_does_not_fit():
    current, train = torch.randn(6, 5), torch.zeros(6, 5, dtype=torch.uint8)
    constants = (0.2, 1.0, None)
    run = torch.ops.spiking_cpu.fire
    arguments = (current, None, True, train, torch.zeros(2, 5), *constants)
    torch.library.opcheck(run, arguments, test_utils="test_schema")
    wrong = {
        "no train": (current, None, True, train.float(), torch.zeros(2, 5), *constants),
        "the current": (current[:5], None, True, train, torch.zeros(2, 5), *constants),
        "the residual": (current, current[:3], True, train, torch.zeros(2, 5), *constants),
    }
    for message, given in wrong.items():
        with pytest.raises(RuntimeError, match=message):
            run(*given)
