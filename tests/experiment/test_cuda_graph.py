"""What a graphed pass does around its recording; the recording itself needs a GPU.

`record_here` stands in for it: a replay runs the function again and writes what it returns and the
gradients into the tensors of the recording, as a graph does.
"""

import copy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from experiment.cuda_graph import WARM_UP, GraphedPass
from experiment.engine import train_one_epoch
from model import TEACHERS, build_model, functional, kernel
from model.distillation import SelfDistillationLoss
from tests.support.micro_training import ONE_PROCESS, micro_images, micro_state
from util.distributed import Group

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="records a CUDA graph")


def batches_of(count, size):
    return list(torch.utils.data.DataLoader(micro_images(count, seed=5), batch_size=size))


def to_input(images):
    return images.float() / 64


def record_here(net, log):
    def record(run):
        for _ in range(WARM_UP):
            run()
        before = [buffer.clone() for buffer in net.buffers()]
        kept = run()  # recording computes nothing on a GPU: undo what it did here
        for buffer, value in zip(net.buffers(), before, strict=True):
            buffer.copy_(value)
        gradients = [p.grad for p in net.parameters()]
        log.append("recorded")

        def replay():
            log.append("replayed")
            result = run()
            for mine, p in zip(gradients, net.parameters(), strict=True):
                mine.copy_(p.grad)
                p.grad = None  # a graph knows nothing of the attribute
            tensors = [*kept[0], kept[1]], [*result[0], result[1]]
            for mine, new in zip(*tensors, strict=True):
                mine.copy_(new)

        return replay, kept

    return record


@pytest.fixture
def graphs_here(monkeypatch):
    """Every GraphedPass of the engine records here; returns what happened."""
    log = []

    def make(run, net):
        return GraphedPass(run, net, record_here(net, log))

    monkeypatch.setattr("experiment.engine.GraphedPass", make)
    return log


def test_training_by_replay_equals_training(graphs_here):
    """Weights, running statistics and metrics after an epoch whose last batch is smaller."""
    states = [micro_state(method="esd") for _ in range(2)]
    for graph, state in zip((False, True), states, strict=True):
        loss_function = SelfDistillationLoss(0.7, 0.3)
        steps = train_one_epoch(
            state, batches_of(11, 4), loss_function, to_input, "none", ONE_PROCESS, cuda_graph=graph
        )
        assert list(steps) == [4, 4, 3]
    plain, graphed = states
    assert graphs_here == ["recorded", "replayed", "replayed"]
    assert graphed.means.means() == plain.means.means()
    for name, value in plain.net.state_dict().items():
        torch.testing.assert_close(graphed.net.state_dict()[name], value, rtol=0, atol=0)


def test_recording_moves_nothing(graphs_here):
    state = micro_state(method="esd")
    (images, labels), *_ = batches_of(4, 4)
    before = copy.deepcopy(state.net.state_dict())
    moved = []

    def run(inputs, labels):
        heads = state.net(inputs)
        loss = sum(head.square().mean() for head in heads)
        loss.backward()
        moved.append(int(state.net.stem.norm.num_batches_tracked))
        return (loss.detach(),), torch.stack(heads).detach()

    state.net.train()
    GraphedPass(run, state.net, record_here(state.net, graphs_here))(to_input(images), labels)
    assert max(moved) > 1, "warming up does move the statistics"
    tracked = int(before["stem.norm.num_batches_tracked"])
    assert int(state.net.stem.norm.num_batches_tracked) == tracked + 1


class HostCopies(TorchDispatchMode):
    """Notes every operation that makes a tensor on a GPU from one on the host, or the reverse."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        devices = {t.device.type for t in tree_leaves((args, kwargs, out)) if torch.is_tensor(t)}
        if "cpu" in devices:
            self.found.append(str(function))
        return out


@pytest.mark.parametrize("method", ["esd", "bptt"])
def test_a_forward_pass_copies_nothing_between_host_and_gpu(method, monkeypatch):
    """No graph can hold such a copy. Seen on fake tensors, which need no GPU."""
    monkeypatch.setattr(kernel, "batch_statistics", functional.batch_statistics)  # has no fake
    options = {"num_classes": 5, "T": 3, "width": 4, "branch_pool": None, "method": method}
    with FakeTensorMode():
        with torch.device("cuda"):
            net = build_model("resnet18", **options)
            x, labels = torch.randn(4, 3, 16, 16), torch.randint(5, (4,))
        for teacher in TEACHERS:
            with HostCopies() as copies:
                loss_function = SelfDistillationLoss(1.0, 0.3, teacher=teacher)
                assert loss_function(net(x), labels, progress=0.5).total.device.type == "cuda"
            assert copies.found == []
        with HostCopies() as copies:
            x.new_tensor(0.5)
        assert copies.found != []


@needs_gpu
def test_a_recorded_graph_trains_like_the_engine():
    """On a GPU: an epoch by replay equals an epoch, in float64."""
    device = torch.device("cuda")
    group = Group(0, 1, device)
    states = []
    for graph in (False, True):
        state = micro_state(method="esd")
        state.net.to(device, torch.float64)
        steps = train_one_epoch(
            state, batches_of(11, 4), SelfDistillationLoss(0.7, 0.3), lambda x: x.double() / 64,
            "none", group, cuda_graph=graph,
        )  # fmt: skip
        assert list(steps) == [4, 4, 3]
        states.append(state)
    for name, value in states[0].net.state_dict().items():
        torch.testing.assert_close(states[1].net.state_dict()[name], value)
