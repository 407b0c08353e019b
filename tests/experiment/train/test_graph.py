"""What a graphed step does around its recording; the recording itself needs a GPU.

`record_here` stands in for it.
"""

import math
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.reference.recording import record_here, recording_on
from experiment.flag.amp import PRECISIONS
from experiment.train import step as training_step
from experiment.train.average import WeightAverage
from experiment.train.failure import NonFiniteError
from experiment.train.graph import GraphedPass, graphed_move
from experiment.train.loop import choose_step
from experiment.train.step import take_step
from experiment.train.time_steps import TimeSteps
from experiment.train.update import Update
from model import TEACHERS, Execution, build_model
from model.distillation import SelfDistillationLoss
from tests.fault.micro_run import digest
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


def loss_of(teacher="soft"):
    return SelfDistillationLoss(0.7, 0.3, teacher=TEACHERS[teacher])


def problem_on(device, method, amp="none", **more):
    """A network in training, images (B, C, H, W), labels (B,) and the progress."""
    execution = Execution(**PRECISIONS[amp].execution)
    options = {"num_classes": 5, "T": 3, "width": 4, "branch_pool": None, "method": method, **more}
    with torch.device(device):
        net = build_model("resnet18", execution=execution, **options)
        x, labels = torch.randn(4, 3, 16, 16), torch.randint(5, (4,))
        return net, x, labels, torch.zeros((), dtype=torch.float64)


@contextmanager
def autocast_to_bf16():
    """`torch.autocast("cuda", torch.bfloat16)`, which does nothing where there is no GPU."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def graphed_step(context, log):
    return partial(take_step, context, move=graphed_move(context, 4, record_here(log)))


@pytest.mark.parametrize(("optim", "ema"), [("SGDM", None), ("Adam", None), ("SGDM", 0.5)])
def test_training_by_replay_equals_training(optim, ema):
    """The whole state, metrics included, in two epochs; recorded once for both.

    Also where the averaged network teaches, which moves between the replays.
    """
    log, ends, recipe = [], [], micro_recipe(optim=optim, lr=0.05, ema=ema)
    for is_graphed in (False, True):
        state, teacher = micro_state(recipe), "soft" if ema is None else "ema"
        context = micro_context(state, loss_of(teacher), runs_ahead=is_graphed)
        if ema is not None:
            state.average.begin(state.net)
            context = replace(context, averaged=state.average.net)
        step = graphed_step(context, log) if is_graphed else partial(take_step, context)
        take_steps(step, batches_of(11, 4)[-1:])  # as after a resume: the smaller batch comes first
        for progress in (0.0, 0.5):
            context.update.follow_schedule()
            take_steps(step, batches_of(11, 4), progress=progress)  # the last is smaller
            context.update.settle()
            ends.append(digest(context.state.state_dict()))
            context.state.next_epoch()
    assert log == ["recorded"] + 4 * ["replayed"]
    assert ends[:2] == ends[2:]


def test_every_drawn_T_is_recorded_once():
    log, ends = [], []
    for is_graphed in (False, True):
        context = micro_context(micro_state(), loss_of(), runs_ahead=is_graphed)
        context = replace(context, time_steps=TimeSteps(1, 3, 0))
        step = graphed_step(context, log) if is_graphed else partial(take_step, context)
        take_steps(step, batches_of(34, 4))  # the last is smaller
        context.update.settle()
        ends.append(digest(context.state.state_dict()))
    drawn = [context.time_steps.of(0, step) for step in range(8)]
    assert set(drawn) == {1, 2, 3}
    assert (log.count("recorded"), log.count("replayed")) == (3, 8)
    assert ends[0] == ends[1]


def test_recording_moves_nothing():
    state, seen = micro_state(), []
    tracked = int(state.net.stem.norm.num_batches_tracked)

    def remembering(*given):
        seen.append(int(state.net.stem.norm.num_batches_tracked))
        return loss_of()(*given)

    step = graphed_step(micro_context(state, remembering), [])
    take_steps(step, batches_of(4, 4))
    assert max(seen) > tracked + 1, "warming up does move the statistics"
    assert int(state.net.stem.norm.num_batches_tracked) == tracked + 1


def test_each_number_of_time_steps_has_a_graph_of_its_own():
    """For frames, whose shape tells it, and for static images, for which T is said."""
    log = []
    graphed = GraphedPass(lambda x, labels, T=1: x.sum() * T, 2, record=record_here(log))
    labels = torch.zeros(2)
    for x, fixed in (
        (torch.ones(2, 3), {}),
        (torch.ones(5, 2, 3), {}),
        (torch.ones(2, 3), {"T": 4}),
    ):
        for factor in (1, 2):
            assert graphed(factor * x, labels, **fixed) == factor * x.sum() * fixed.get("T", 1)
    assert log == 3 * ["recorded", "replayed", "replayed"]
    assert graphed(torch.ones(1, 3), labels[:1]) == 3
    assert len(log) == 9


def test_a_replay_leaves_the_batch_that_was_recorded_alone():
    graphed = GraphedPass(lambda x, labels: x.sum(), 2, record=record_here([]))
    first, labels = torch.ones(2, 3), torch.zeros(2)
    graphed(first, labels)
    graphed(2 * first, labels)
    assert first.equal(torch.ones(2, 3))


@pytest.mark.parametrize("method", ["esd", "bptt"])
def test_a_forward_pass_copies_nothing_between_host_and_gpu(method):
    """No graph can hold such a copy. Seen on fake tensors, which need no GPU."""
    with FakeTensorMode():
        net, x, labels, progress = problem_on("cuda", method)
        for teacher in TEACHERS.values():
            with HostCopies() as copies:
                options = {"teacher": teacher, "label_smoothing": 0.1}
                loss_function = SelfDistillationLoss(1.0, 0.3, **options)
                heads = net(x)
                averaged = torch.stack(heads).detach() if teacher.averaged else None
                loss = loss_function(heads, labels, progress, averaged).total
                assert (loss.device.type, loss.dtype) == ("cuda", torch.float32)
            assert copies.found == []
        with HostCopies() as copies, autocast_to_bf16():
            assert {heads.dtype for heads in net(x)} == {torch.bfloat16}
        assert copies.found == []
        with HostCopies() as copies:
            x.new_tensor(0.5)
        assert copies.found != []


@pytest.mark.parametrize(
    ("method", "amp", "branch_gradient"),
    [
        ("esd", "none", "joined"),
        ("esd", "bf16-backward", "joined"),
        ("esd", "fp16", "joined"),
        ("bptt", "none", "joined"),
        ("esd", "none", "partition"),
        ("esd", "fp16", "normalised"),
    ],
)
def test_nor_does_a_backward_pass_or_the_averaged_network(
    method, amp, branch_gradient, monkeypatch
):
    """Seen on a device without data, where nothing can be read; fake tensors have no backward pass
    without a GPU. What updates the weights is seen in `test_update`."""
    monkeypatch.setattr(training_step, "autocast", lambda device, amp: nullcontext())  # unknown
    problem = problem_on("meta", method, amp, branch_gradient=branch_gradient)
    net, x, labels, progress = problem
    average = WeightAverage(net, 0.9)
    average.begin(net)
    context = replace(micro_context(micro_state(), loss_of("ema")), network=net, amp=amp)
    context = replace(context, averaged=average.net)
    for owner, name in ((torch, "tensor"), (torch, "as_tensor"), (torch.Tensor, "new_tensor")):
        monkeypatch.setattr(owner, name, None)  # made there at once, of numbers from the host
    for _ in range(2):  # a later step, too
        with HostCopies() as copies:
            training_step.differentiate(context, x, labels, progress, weight=1 / net.T)
            average.update()
        assert copies.found == []
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_a_replayed_step_that_is_not_finite_moves_nothing(device):
    state, group, unit = micro_state(), Group(0, 1, torch.device(device)), [64.0]
    state.net.to(device)
    update = Update(state.net, state.optimizer, group, runs_ahead=True)
    context = replace(micro_context(state, loss_of()), update=update, group=group)
    context = replace(context, to_input=lambda x: x.float() / unit[0])
    step = partial(take_step, context, move=graphed_move(context, 4, recording_on(device)))
    take_steps(step, batches_of(8, 4), device=device)
    update.settle()
    before = [parameter.detach().clone() for parameter in state.net.parameters()]
    unit[0] = math.nan
    take_steps(step, batches_of(4, 4), device=device)
    unit[0] = 64.0
    with pytest.raises(NonFiniteError, match="step 2: the gradient of"):
        take_steps(step, batches_of(4, 4), device=device)
    assert all(map(torch.equal, before, state.net.parameters()))


@needs_gpu
@pytest.mark.parametrize(
    ("method", "optim", "T_min"),
    [("esd", "SGDM", None), ("bptt", "SGDM", None), ("esd", "Adam", None), ("esd", "SGDM", 1)],
)
def test_a_recorded_graph_trains_like_the_engine(method, optim, T_min):
    """On a GPU: epochs with evaluations between equal those without a graph, in float64."""
    group = Group(0, 1, torch.device("cuda"))
    states, memory = [], []
    for cuda_graph in (False, True):
        state = micro_state(micro_recipe(optim=optim), method)
        state.net.to(group.device, torch.float64)
        update = Update(state.net, state.optimizer, group)
        context = replace(micro_context(state, loss_of()), update=update, group=group)
        context = replace(context, to_input=lambda x: x.double() / 64)
        context = replace(context, time_steps=TimeSteps(T_min, 3, 0))
        step = choose_step(context, micro_recipe(cuda_graph=cuda_graph), 4)
        for _ in range(3):
            state.begin_epoch_anew()  # the same T again
            state.net.train()
            take_steps(step, batches_of(11, 4), device="cuda")  # the last is smaller
            state.net.eval()
            state.net(torch.randn(2, 2, 9, 7, dtype=torch.float64, device=group.device))
            memory.append(torch.cuda.memory_allocated())
        states.append(state)
    assert memory[-1] == memory[-2], "memory does not grow from epoch to epoch"
    for name, value in states[0].net.state_dict().items():
        torch.testing.assert_close(states[1].net.state_dict()[name], value)
