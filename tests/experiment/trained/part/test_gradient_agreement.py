"""Cosines between rate-based and BPTT gradients, where they are known."""

import pytest
import torch
import torch.nn.functional as F

from experiment.trained.part.gradient_agreement import (
    copy_of,
    cosine,
    gradient_agreement,
    gradients,
)
from tests.support.trained_run import first_samples, make_trained


def load(tmp_path, *flags):
    trained = make_trained(tmp_path, *flags)
    return trained, *first_samples(trained, 8)


def test_one_time_step_without_leak_agrees_exactly(tmp_path):
    """With T = 1 the rate gradient is the surrogate gradient."""
    cosines = gradient_agreement(*load(tmp_path, "--T", "1"))
    assert len(cosines) == 1 + 16 + 3 + 1 + 1
    assert all(value == pytest.approx(1, abs=1e-4) for value in cosines.values())


def test_both_gradients_have_the_whole_derivative_of_a_hard_reset(tmp_path):
    trained, *_ = load(tmp_path, "--v_reset", "0")
    assert trained.net.neuron.detach_reset
    assert not copy_of(trained, "bptt").neuron.detach_reset


SMALL_STEM = ("--arch", "preact_resnet18", "--stem", "small", "--branch_pool", "global")


@pytest.mark.parametrize("flags", [(), SMALL_STEM])
def test_several_steps_agree_in_part_and_the_classifier_fully(tmp_path, flags):
    cosines = gradient_agreement(*load(tmp_path, *flags))
    assert cosines["classifier.0"] == pytest.approx(1, abs=1e-5)  # linear in the rates
    inner = [value for name, value in cosines.items() if name not in ("classifier.0", "all")]
    assert all(-1 <= value < 1 - 1e-4 for value in inner)
    if not flags:  # agreement fades with depth in random networks; it is 0.9 here
        assert cosines["stages.3.1.unit2"] > 0.3


def test_gradients_are_those_of_backward_and_the_trained_network_is_untouched(tmp_path):
    trained, x, labels = load(tmp_path)
    before = {name: value.clone() for name, value in trained.net.state_dict().items()}
    found = gradients(copy_of(trained, "bptt"), x, labels)
    net = copy_of(trained, "bptt").train()
    F.cross_entropy(net(x)[-1], labels).backward()
    for name, parameter in net.named_parameters():
        assert torch.equal(found[name], parameter.grad), name
    assert all(torch.equal(before[k], v) for k, v in trained.net.state_dict().items())
    assert not trained.net.training


def test_cosine_of_known_directions():
    a = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert cosine(a, 2 * a) == pytest.approx(1)
    assert cosine(a, -a) == pytest.approx(-1)
    assert cosine(a, torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == 0
    assert cosine(a, torch.zeros(2, 2)) == 0
