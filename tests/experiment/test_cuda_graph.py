"""What a graphed pass does around its recording; the recording itself needs a GPU.

`record_here` stands in for it.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmark.reference.recording import record_here
from experiment.cuda_graph import GraphedPass
from experiment.engine import train_one_epoch
from experiment.gradient_pass import accumulate_gradients, gradient_pass
from model import TEACHERS, build_model, functional, kernel
from model.distillation import SelfDistillationLoss
from tests.support.host_copies import HostCopies
from tests.support.micro_training import ONE_PROCESS, micro_images, micro_recipe, micro_state
from util.distributed import Group

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="records a CUDA graph")


def batches_of(count, size):
    return list(torch.utils.data.DataLoader(micro_images(count, seed=5), batch_size=size))


def to_input(images):
    return images.float() / 64


def train_epoch(state, run, group=ONE_PROCESS, convert=to_input):
    """An epoch whose last batch is smaller."""
    assert list(train_one_epoch(state, batches_of(11, 4), run, convert, group)) == [4, 4, 3]


def loss_of():
    return SelfDistillationLoss(0.7, 0.3, teacher=TEACHERS["soft"])


def test_training_by_replay_equals_training():
    """Weights, running statistics and metrics after two epochs; recorded once for both."""
    log, states = [], [micro_state() for _ in range(2)]
    plain, replayed = states
    passes = [partial(accumulate_gradients, state, loss_of(), "none") for state in states]
    passes[1] = GraphedPass(passes[1], replayed.net, 4, record_here(replayed.net, log))
    for state, run in zip(states, passes, strict=True):
        last = batches_of(11, 4)[-1:]  # as after a resume: the smaller batch comes first
        assert list(train_one_epoch(state, last, run, to_input, ONE_PROCESS)) == [3]
        for _ in range(2):
            train_epoch(state, run)
    assert log == ["recorded"] + 4 * ["replayed"]
    assert replayed.means.means() == plain.means.means()
    for name, value in plain.net.state_dict().items():
        torch.testing.assert_close(replayed.net.state_dict()[name], value, rtol=0, atol=0)


def test_recording_moves_nothing():
    state, seen = micro_state(), []
    (images, labels), *_ = batches_of(4, 4)
    tracked = int(state.net.stem.norm.num_batches_tracked)

    def run(inputs, labels):
        loss, heads = accumulate_gradients(state, loss_of(), "none", inputs, labels)
        seen.append(int(state.net.stem.norm.num_batches_tracked))
        return loss, heads

    state.net.train()
    GraphedPass(run, state.net, 4, record_here(state.net, []))(to_input(images), labels)
    assert max(seen) > tracked + 1, "warming up does move the statistics"
    assert int(state.net.stem.norm.num_batches_tracked) == tracked + 1


def test_a_recipe_has_a_graph_if_it_says_so():
    group = Group(0, 1, torch.device("cpu"))
    for wanted in (False, True):
        run = gradient_pass(micro_state(), loss_of(), micro_recipe(cuda_graph=wanted), group)
        assert isinstance(run, GraphedPass) is wanted


@pytest.mark.parametrize(
    ("method", "changes", "world_size"),
    [
        ("esd", {"accum": 2}, 1),
        ("sltt", {}, 1),
        ("bptt_checkpointed", {}, 1),
        ("esd", {}, 2),
    ],
)
def test_what_no_graph_holds_is_refused(method, changes, world_size):
    """The command line ignores --cuda_graph there, with a warning."""
    group, recipe = Group(0, world_size, torch.device("cpu")), micro_recipe(cuda_graph=True)
    with pytest.raises(AssertionError):
        gradient_pass(micro_state(method=method), loss_of(), replace(recipe, **changes), group)


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
        run = gradient_pass(state, loss_of(), micro_recipe(cuda_graph=cuda_graph), group)
        for _ in range(3):
            train_epoch(state, run, group, convert=lambda x: x.double() / 64)
            state.net.eval()
            state.net(torch.randn(2, 2, 9, 7, dtype=torch.float64, device=group.device))
            memory.append(torch.cuda.memory_allocated())
        states.append(state)
    assert memory[-1] == memory[-2], "memory does not grow from epoch to epoch"
    for name, value in states[0].net.state_dict().items():
        torch.testing.assert_close(states[1].net.state_dict()[name], value)
