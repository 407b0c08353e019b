"""What a graphed pass does around its recording; the recording itself needs a GPU.

`record_here` stands in for it.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.reference.recording import record_here
from experiment.train.accumulated import AccumulatedStep
from experiment.train.graph import graphed_pass
from experiment.train.loop import choose_step
from experiment.train.step import take_step
from model import TEACHERS, build_model, functional, kernel
from model.distillation import SelfDistillationLoss
from tests.support.host_copies import HostCopies
from tests.support.micro_training import (
    micro_context,
    micro_images,
    micro_recipe,
    micro_state,
    take_steps,
)
from util.process.distributed import Group

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="records a CUDA graph")


def batches_of(count, size):
    return list(torch.utils.data.DataLoader(micro_images(count, seed=5), batch_size=size))


def loss_of():
    return SelfDistillationLoss(0.7, 0.3, teacher=TEACHERS["soft"])


def graphed_step(context, record):
    return AccumulatedStep(context, graphed_pass(context, 4, record))


def test_training_by_replay_equals_training():
    """Weights, running statistics and metrics after two epochs; recorded once for both."""
    log, plain, replayed = [], micro_state(), micro_state()
    record = record_here(replayed.net, log)
    plain_step = partial(take_step, micro_context(plain, loss_of()))
    for step in (plain_step, graphed_step(micro_context(replayed, loss_of()), record)):
        take_steps(step, batches_of(11, 4)[-1:])  # as after a resume: the smaller batch comes first
        for progress in (0.0, 0.5):
            take_steps(step, batches_of(11, 4), progress=progress)  # the last is smaller
    assert log == ["recorded"] + 4 * ["replayed"]
    assert replayed.means.means() == plain.means.means()
    for name, value in plain.net.state_dict().items():
        torch.testing.assert_close(replayed.net.state_dict()[name], value, rtol=0, atol=0)


def test_recording_moves_nothing():
    state, seen = micro_state(), []
    tracked = int(state.net.stem.norm.num_batches_tracked)

    def remembering(heads, labels, progress):
        seen.append(int(state.net.stem.norm.num_batches_tracked))
        return loss_of()(heads, labels, progress)

    step = graphed_step(micro_context(state, remembering), record_here(state.net, []))
    take_steps(step, batches_of(4, 4))
    assert max(seen) > tracked + 1, "warming up does move the statistics"
    assert int(state.net.stem.norm.num_batches_tracked) == tracked + 1


@pytest.mark.parametrize("method", ["esd", "bptt"])
def test_a_forward_pass_copies_nothing_between_host_and_gpu(method, monkeypatch):
    """No graph can hold such a copy. Seen on fake tensors, which need no GPU."""
    monkeypatch.setattr(kernel, "batch_statistics", functional.batch_statistics)  # has no fake
    options = {"num_classes": 5, "T": 3, "width": 4, "branch_pool": None, "method": method}
    with FakeTensorMode():
        with torch.device("cuda"):
            net = build_model("resnet18", **options)
            x, labels = torch.randn(4, 3, 16, 16), torch.randint(5, (4,))
        for teacher in TEACHERS.values():
            progress = torch.zeros((), dtype=torch.float64, device="cuda")
            with HostCopies() as copies:
                loss_function = SelfDistillationLoss(1.0, 0.3, teacher=teacher)
                loss = loss_function(net(x), labels, progress=progress).total
                assert (loss.device.type, loss.dtype) == ("cuda", torch.float32)
            assert copies.found == []
        with HostCopies() as copies:
            x.new_tensor(0.5)
        assert copies.found != []


@needs_gpu
@pytest.mark.parametrize("method", ["esd", "bptt"])
def test_a_recorded_graph_trains_like_the_engine(method):
    """On a GPU: epochs with evaluations between equal those without a graph, in float64."""
    group = Group(0, 1, torch.device("cuda"))
    states, memory = [], []
    for cuda_graph in (False, True):
        state = micro_state(method=method)
        state.net.to(group.device, torch.float64)
        context = micro_context(state, loss_of())
        context = replace(context, to_input=lambda x: x.double() / 64, group=group)
        step = choose_step(context, micro_recipe(cuda_graph=cuda_graph), 4)
        for _ in range(3):
            state.net.train()
            take_steps(step, batches_of(11, 4), device="cuda")  # the last is smaller
            state.net.eval()
            state.net(torch.randn(2, 2, 9, 7, dtype=torch.float64, device=group.device))
            memory.append(torch.cuda.memory_allocated())
        states.append(state)
    assert memory[-1] == memory[-2], "memory does not grow from epoch to epoch"
    for name, value in states[0].net.state_dict().items():
        torch.testing.assert_close(states[1].net.state_dict()[name], value)
