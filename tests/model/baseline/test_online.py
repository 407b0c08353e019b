"""Online methods against spikingjelly's neurons and against autograd with detached potentials."""

import copy

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from model import build_model
from model.baseline.online import OnlineStep
from model.layer import AveragePool, ConvNormLIF, Linear, MaxPool, average_pool
from tests.support.observe import reference_names
from tests.support.spiking_network import SpikingResNet18
from util.checkpoint import from_reference

T, B, CLASSES, WIDTH = 4, 3, 7, 6
NEURON = {"decay": 0.3, "thresh": 0.8, "v_reset": None, "detach_reset": True}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    scale = float(expected.detach().abs().max())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10 * scale)


def online_network(method: str, v_reset: float | None = None, seed: int = 0):
    torch.manual_seed(seed)
    options = {"num_classes": CLASSES, "in_channels": 2, "T": T, "width": WIDTH}
    neuron = {**NEURON, "v_reset": v_reset}
    net = build_model("resnet18", method=method, **options, **neuron).double()
    frames = torch.randn(T, B, 2, 17, 13, dtype=torch.float64)
    return net, frames, torch.arange(B) % CLASSES


def train_online(net, frames: Tensor, labels: Tensor) -> list[Tensor]:
    """Gradients of the mean of the time steps' losses in `parameter.grad`; the steps' logits.

    Each backward frees the graph of its step, which the next one therefore does not need.
    """
    outputs = []
    for step in net.method.own_pass.steps(net, frames):
        (logits,) = net(step)
        (F.cross_entropy(logits, labels) / T).backward()
        outputs.append(logits.detach())
    return outputs


@pytest.mark.parametrize("v_reset", [None, 0.0], ids=["soft", "hard"])
def test_sltt_equals_spikingjelly(v_reset) -> None:
    net, frames, labels = online_network("sltt", v_reset)
    constants = {**NEURON, "v_reset": v_reset}
    theirs = SpikingResNet18(
        num_classes=CLASSES, in_channels=2, width=WIDTH, online=True, **constants
    ).double()
    net.load_state_dict(from_reference(theirs.state_dict()))
    outputs = train_online(net, frames, labels)
    for frame, output in zip(frames, outputs, strict=True):
        logits = theirs(frame)
        (F.cross_entropy(logits, labels) / T).backward()
        assert_close(output, logits.detach())
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == T  # time matters
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    names = reference_names(gradients)
    for name, parameter in net.named_parameters():
        assert_close(parameter.grad, gradients[names[name]])
    for key, value in from_reference(theirs.state_dict()).items():
        assert_close(net.state_dict()[key], value)


def test_ottt_equals_spikingjelly() -> None:
    ours, theirs = _Stack().double(), _theirs().double()
    matching = list(ours.parameters())
    for parameter, other in zip(matching, theirs.parameters(), strict=True):
        assert parameter.shape == other.shape
        parameter.data.copy_(other.data)
    frames = torch.randn(T, B, 2, 9, 7, dtype=torch.float64)
    labels = torch.arange(B)
    memory: dict = {}
    for frame in frames:
        logits = ours(OnlineStep(frame, None, memory, NEURON["decay"])).value
        F.cross_entropy(logits, labels).backward()
        wanted = theirs(frame)
        wanted = wanted[0] if isinstance(wanted, list) else wanted
        F.cross_entropy(wanted, labels).backward()
        assert_close(logits, wanted)
    for parameter, other in zip(matching, theirs.parameters(), strict=True):
        assert parameter.grad.norm() > 0
        assert_close(parameter.grad, other.grad)


class _Stack(nn.Module):
    """Two convolutions with neurons, average pooling, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        constants = build_model("resnet18", num_classes=3, T=T, width=2, **NEURON).neuron
        self.first = ConvNormLIF(2, 5, 3, neuron=constants)
        self.second = ConvNormLIF(5, 6, 3, 2, neuron=constants)
        self.pool = AveragePool(2)
        self.last = Linear(6 * 4, 3)

    def forward(self, x):
        x = self.pool(self.second(self.first(x)))
        return self.last(x.map(lambda maps: average_pool(maps, 2)))


def _theirs() -> nn.Module:
    def fire() -> nn.Module:
        return neuron.OTTTLIFNode(
            tau=1 / 0.7, v_threshold=0.8, surrogate_function=surrogate.Sigmoid(alpha=4.0)
        )

    first = (nn.Conv2d(2, 5, 3, 1, 1, bias=False), nn.BatchNorm2d(5), fire())
    second = (nn.Conv2d(5, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), fire())
    last = (nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6 * 4, 3))
    net = layer.OTTTSequential(*first, *second, *last)
    functional.reset_net(net)
    return net


@pytest.mark.parametrize("method", ["sltt", "ottt"])
@pytest.mark.parametrize("v_reset", [None, 0.0], ids=["soft", "hard"])
def test_resnet_equals_autograd_with_detached_potentials(method: str, v_reset) -> None:
    net, frames, labels = online_network(method, v_reset, seed=1)
    twin, _, _ = online_network(method, v_reset, seed=1)
    outputs = train_online(net, frames, labels)
    oracle = _DetachedResNet(twin, NEURON["decay"], NEURON["thresh"], v_reset, method == "ottt")
    for frame, output in zip(frames, outputs, strict=True):
        logits = oracle.logits(frame)
        (F.cross_entropy(logits, labels) / T).backward()
        assert_close(output, logits.detach())
    for (name, parameter), other in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert parameter.grad.norm() > 0, name
        assert_close(parameter.grad, other.grad)
    with torch.no_grad():
        assert_close(net.eval()(frames), twin.eval()(frames))


class _DetachedResNet:
    """The network's layers called one by one, with the rules written as detached tensors."""

    def __init__(self, net, decay, threshold, v_reset, traces):
        self.net, self.decay, self.threshold, self.v_reset = net, decay, threshold, v_reset
        self.traces, self.past = traces, {}

    def logits(self, frame: Tensor) -> Tensor:
        x = self.unit(self.net.stem, (frame, None))
        for stage in self.net.stages:
            for block in stage:
                residual = x[0]
                if block.shortcut is not None:
                    residual = self.normed(block.shortcut, x)
                x = self.unit(block.unit2, self.unit(block.unit1, x), residual)
        value, trace = (None if part is None else part.mean((2, 3)) for part in x)
        linear = self.net.classifier[0]
        return self.at_trace(F.linear, value, trace, linear.weight) + linear.bias

    def unit(self, module, x, residual=0.0):
        current = self.normed(module, x) + residual
        before, trace = self.past.get(module, (0.0, 0.0))
        v = self.decay * before + current
        smooth = torch.sigmoid(4 * (v - self.threshold))
        spikes = (v >= self.threshold).to(v.dtype).detach() + smooth - smooth.detach()
        fired = spikes.detach()
        if self.v_reset is None:
            after = v.detach() - self.threshold * fired
        else:
            after = torch.where(fired > 0, self.v_reset, v.detach())
        trace = self.decay * trace + fired
        self.past[module] = after, trace
        return spikes, trace if self.traces else None

    def normed(self, module, x):
        value, trace = x
        stride, padding = module.conv.stride, module.conv.padding

        def convolve(maps, weight):
            return F.conv2d(maps, weight, None, stride, padding)

        y = self.at_trace(convolve, value, trace, module.conv.weight)
        norm = module.norm
        return F.batch_norm(
            y, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, 0.1, norm.eps
        )

    @staticmethod
    def at_trace(operation, value, trace, weight):
        if trace is None:
            return operation(value, weight)
        through_weight = operation(trace, weight)
        return operation(value, weight.detach()) + through_weight - through_weight.detach()


@pytest.mark.parametrize("method", ["sltt", "ottt"])
def test_forward_of_all_steps_is_the_mean_of_the_steps(method: str) -> None:
    net, frames, _ = online_network(method)
    (logits,) = net(frames)
    steps = [net(step)[0] for step in net.method.own_pass.steps(net, frames)]
    torch.testing.assert_close(logits, torch.stack(steps).mean(0))
    assert len(steps) == T


@pytest.mark.parametrize("method", ["sltt", "ottt"])
def test_every_batch_starts_from_rest(method: str) -> None:
    """Whatever became of the batch before, whose memory is its own."""
    net, frames, labels = online_network(method)
    expected = train_online(copy.deepcopy(net), frames, labels)
    abandoned = net.method.own_pass.steps(copy.deepcopy(net), frames)
    first, second = (step.memory for step in (next(abandoned), next(abandoned)))
    assert first is second
    assert not next(net.method.own_pass.steps(net, frames)).memory
    for own, wanted in zip(train_online(net, frames, labels), expected, strict=True):
        assert torch.equal(own, wanted)


def test_the_trace_of_a_maximum_is_the_decaying_sum_of_maxima() -> None:
    """Not the maximum of the trace, which differs where the largest spike moves."""
    pool, decay = MaxPool(2), 0.5
    frames = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 1.0], [0.0, 0.0]]]])
    memory, trace = {}, torch.zeros(1, 1, 2, 2)
    for frame, expected in zip(frames, (1.0, 1.5), strict=True):
        trace = decay * trace + frame[None]
        out = pool(OnlineStep(frame[None], trace, memory, decay))
        assert (out.value.item(), out.trace.item()) == (1.0, expected)
    assert pool(OnlineStep(frame[None], None, memory, None)).trace is None


@pytest.mark.parametrize("method", ["sltt", "ottt"])
def test_autocast_keeps_gradients_near_those_of_full_precision(method: str) -> None:
    torch.manual_seed(0)
    stack = _Stack()
    frame, memory = torch.randn(B, 2, 9, 7), {}
    traces = 0.5 if method == "ottt" else None
    with torch.autocast("cpu", torch.bfloat16):
        logits = stack(OnlineStep(frame, None, memory, traces)).value
        logits = stack(OnlineStep(frame, None, memory, traces)).value
    logits.float().sum().backward()
    assert logits.dtype == torch.bfloat16
    for name, parameter in stack.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name
    assert all(past.potential.dtype == torch.float32 for past in memory.values())
