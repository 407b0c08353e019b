"""Cosines between rate-based and BPTT gradients, where they are known."""

import pytest
import torch
import torch.nn.functional as F

from experiment.trained.checkpoint import load_trained
from experiment.trained.gradient_agreement import copy_of, cosine, gradient_agreement, gradients
from tests.support.trained_run import make_checkpoint

CPU = torch.device("cpu")


def load(tmp_path, *flags):
    trained = load_trained(make_checkpoint(tmp_path, *flags), CPU)
    batch = [trained.data.test[i] for i in range(8)]
    images, labels = zip(*batch, strict=True)
    return trained, trained.data.to_input(torch.stack(images)), torch.tensor(labels)


def test_one_time_step_without_leak_agrees_exactly(tmp_path):
    """With T = 1 the rate gradient is the surrogate gradient."""
    cosines = gradient_agreement(*load(tmp_path, "--T", "1"))
    assert len(cosines) == 1 + 16 + 3 + 1 + 1
    assert all(value == pytest.approx(1, abs=1e-4) for value in cosines.values())


def test_both_gradients_have_the_whole_derivative_of_a_hard_reset(tmp_path):
    trained, *_ = load(tmp_path, "--v_reset", "0")
    assert trained.net.neuron.detach_reset
    assert not copy_of(trained, "bptt").neuron.detach_reset


def test_a_network_with_a_small_stem_is_copied_with_it(tmp_path):
    flags = ("--arch", "preact_resnet18", "--stem", "small", "--branch_pool", "global")
    cosines = gradient_agreement(*load(tmp_path, *flags))
    assert cosines["classifier.0"] == pytest.approx(1, abs=1e-5)


def test_several_steps_agree_in_part_and_the_classifier_fully(tmp_path):
    cosines = gradient_agreement(*load(tmp_path))
    assert cosines["classifier.0"] == pytest.approx(1, abs=1e-5)  # linear in the rates
    inner = [value for name, value in cosines.items() if name not in ("classifier.0", "all")]
    assert all(-1 <= value < 1 - 1e-4 for value in inner)
    assert cosines["stages.3.1.unit2"] > 0.3  # 0.9 here; agreement fades with depth in random nets


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
