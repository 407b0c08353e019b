"""Optimizer and schedule are the paper's."""

import math

import pytest
import torch

from experiment.flag.table import OPTIMIZERS
from experiment.train.recipe import make_optimizer, make_scheduler
from tests.support.micro_training import micro_network, micro_recipe


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_weight_decay_spares_biases_and_batch_norms(optim):
    net = micro_network()
    optimizer = make_optimizer(net, micro_recipe(optim=optim, wd=0.5, lr=0.25))
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    every = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        assert id(parameter) in every, name
        assert (id(parameter) in decayed) == (parameter.ndim > 1), name
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.5, 0.0}


def test_the_learning_rate_follows_a_cosine_to_zero():
    recipe = micro_recipe(lr=0.1, num_epoch=7)
    optimizer = make_optimizer(torch.nn.Linear(2, 2), recipe)
    scheduler = make_scheduler(optimizer, recipe)
    for epoch in range(8):
        expected = 0.05 * (1 + math.cos(math.pi * epoch / 7))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, abs=1e-12)
        optimizer.step()
        scheduler.step()
