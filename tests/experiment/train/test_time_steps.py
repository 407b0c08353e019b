"""Which time steps a training step gets, and that it is then the step of such a network."""

from dataclasses import replace

import pytest
import torch

from experiment.train.loop import choose_step
from experiment.train.state import TrainingState
from experiment.train.time_steps import TimeSteps
from model import METHODS, build_model
from tests.support.micro_training import micro_context, micro_recipe

T, B, K = 3, 4, 5


def test_every_number_of_the_range_is_drawn_about_equally_often():
    drawn = [TimeSteps(2, 5, 7).of(epoch, step) for epoch in range(20) for step in range(50)]
    counts = [drawn.count(value) for value in range(7)]
    assert sum(counts[2:6]) == 1000 and min(counts[2:6]) > 200, counts
    assert {TimeSteps(4, 4, 7).of(0, step) for step in range(9)} == {4}


def test_a_place_has_its_own_time_steps():
    def drawn(seed, epoch):
        return [TimeSteps(1, 9, seed).of(epoch, step) for step in range(30)]

    assert drawn(1, 2) == drawn(1, 2)
    assert len({tuple(drawn(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_without_a_least_number_it_is_always_the_network_s():
    assert {TimeSteps(None, 6, 0).of(epoch, 3) for epoch in range(50)} == {6}


def test_frames_are_cut_and_images_are_not():
    """Nor frames of another number, which the network refuses then."""
    frames, time_steps = torch.arange(6.0).view(3, 2, 1, 1, 1), TimeSteps(1, 3, 0)
    assert time_steps.cut(frames, 2).equal(frames[:2])
    assert time_steps.cut(frames[0], 1).equal(frames[0])
    assert TimeSteps(1, 2, 0).cut(frames, 1).equal(frames)


def after_a_step(own_T, drawn, x, labels, *, method, accum):
    """Weights, running statistics and metrics after a step of a network whose T is `own_T`.

    drawn: T of the step, if that is another.
    """
    torch.manual_seed(0)
    options = {"in_channels": 2, "width": 2, "thresh": 0.3, "method": method}
    net = build_model("resnet19", num_classes=K, T=own_T, **options).double().train()
    recipe = micro_recipe(accum=accum)
    state = TrainingState(net, recipe, {})
    context = replace(micro_context(state), to_input=lambda images: images)
    if drawn is not None:
        time_steps = TimeSteps(1, own_T, 0)
        state.batch = next(s for s in range(99) if time_steps.of(0, s) == drawn)
        context = replace(context, time_steps=time_steps)
    parts = zip(x.chunk(accum, -4), labels.chunk(accum), strict=True)
    choose_step(context, recipe, B)(list(parts), torch.ones((), dtype=torch.float64))
    return net.state_dict(), state.means.means()


CASES = [(method, accum) for method in METHODS for accum in (1, 2)]


@pytest.mark.parametrize("frames", [False, True], ids=["image", "frames"])
@pytest.mark.parametrize(("method", "accum"), CASES, ids=str)
def test_a_step_at_a_drawn_T_is_that_of_a_network_with_that_T(method, accum, frames):
    """Loss, its division by T, gradients and statistics."""
    generator = torch.Generator().manual_seed(1)
    shape = (T, B, 2, 9, 7) if frames else (B, 2, 9, 7)
    x = 2 * torch.rand(shape, dtype=torch.float64, generator=generator)
    labels = torch.randint(K, (B,), generator=generator)
    case = {"method": method, "accum": accum}
    weights = []
    for drawn in (1, 2, 3):
        mixed, metrics = after_a_step(T, drawn, x, labels, **case)
        first = x[:drawn] if frames else x
        plain, wanted = after_a_step(drawn, None, first, labels, **case)
        torch.testing.assert_close(mixed, plain, rtol=0, atol=0)
        assert metrics == wanted
        weights.append(mixed["stem.conv.weight"])
    assert not weights[0].equal(weights[1]) and not weights[1].equal(weights[2]), "T matters"
