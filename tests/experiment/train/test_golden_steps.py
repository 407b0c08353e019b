"""Golden steps, taken as a graph: the schedule's rate, the check, fused SGD and all.

The recording is a stand-in's, which needs no GPU; convolutions are sparse, which takes a third of
the time in float64.
"""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmark.reference.recording import record_here
from experiment.train.graph import graphed_move
from experiment.train.state import TrainingState
from experiment.train.step import take_step
from model import Execution, build_model
from model.distillation import SelfDistillationLoss
from tests.support import golden
from tests.support.micro_training import micro_context, micro_recipe
from util.checkpoint import from_reference

STEPS = 5  # of the 20; the first of the four batches comes twice


@pytest.mark.slow
def test_the_golden_trajectory_by_graphed_steps():
    stored, expected = golden.constants("trajectory.npz"), golden.arrays("trajectory.npz")
    case = golden.NetworkCase("resnet18_c10_T6")
    options = {"num_classes": stored["classes"], "execution": Execution(sparse=True)}
    net = build_model("resnet18", T=stored["T"], **options).double().train()
    net.load_state_dict(from_reference(case.state()))
    recipe = micro_recipe(lr=stored["lr"], wd=stored["wd"], num_epoch=300)
    loss_of = SelfDistillationLoss(stored["alp"], stored["beta"])
    context = micro_context(TrainingState(net, recipe, {}), loss_of, runs_ahead=True)
    context = replace(context, to_input=lambda x: x)
    log, found = [], defaultdict(list)
    graphed = graphed_move(context, stored["B"], record_here(log))

    def move(*batch, T):
        loss, logits = graphed(*batch, T=T)
        gradients = [p.grad.norm() for p in net.parameters()]
        found["hard"].append(float(loss.hard))
        found["soft"].append(float(loss.soft))
        found["grad_total_norm"].append(float(torch.stack(gradients).norm()))
        return loss, logits

    shape = (stored["NB"], stored["B"], stored["in_channel"], stored["H"], stored["W"])
    inputs, labels = golden.normal("input", shape), torch.from_numpy(expected["labels"])
    for step in range(STEPS):
        batch = step % stored["NB"]
        take_step(context, [(inputs[batch], labels[batch])], torch.ones(()), move=move)
    context.update.settle()

    assert log == ["recorded"] + STEPS * ["replayed"]
    for name, values in found.items():
        wanted = np.nan_to_num(expected[name][:STEPS])  # the published soft loss without a teacher
        np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-9, err_msg=name)
