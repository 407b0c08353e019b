"""What autograd and its users do with the one pass: freezing, precision, layouts, copies.

That the gradients of networks are right is for the golden and two-stage tests; here those of one
layer are compared with autograd's, and others with themselves under another use.
"""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from benchmark.speed.measure import saved_bytes
from model import Execution, RateModel, build_model, functional
from model.activation import Activation
from model.baseline.through_time import ThroughTime
from model.functional import Neuron
from model.layer import ConvNorm, ConvNormLIF, LIFLayer
from model.rate_pair import RatePair
from tests.support.activations import pair_of, spikes
from tests.support.map_casts import MapCasts

T, B = 3, 2
NEURON = Neuron(threshold=0.5)


def pair(dtype: torch.dtype = torch.float64, *, max_count: int = 1, **facts: object) -> RatePair:
    """Spikes (T*B, 4, 6, 5) and their rate, a leaf; facts: further `Facts`."""
    return pair_of(spikes(T, B, 4, 6, 5).to(dtype), T, max_count=max_count, **facts)


def layer(kind: type[ConvNorm] = ConvNormLIF, *, bias: bool = True) -> ConvNorm:
    torch.manual_seed(0)
    options = {"neuron": NEURON} if kind is ConvNormLIF else {}
    return kind(4, 6, 3, bias=bias, **options).double()


def backward(out: Activation) -> None:
    weight = torch.linspace(-1, 1, out.rate.numel(), dtype=out.rate.dtype)
    (out.rate.flatten() * weight).sum().backward()


def gradients(module: nn.Module, x: RatePair) -> dict[str, Tensor]:
    """Of a layer's input and parameters, by name, after its backward pass on a pair."""
    backward(module(x))
    named = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    return {"x": x.rate.grad, **named}


class Triangular(Neuron):
    """g = max(0, 1 - |v - threshold|), a surrogate gradient of one's own."""

    def surrogate_gradient(self, v):
        return (1 - (v - self.threshold).abs()).clamp(min=0)


def test_a_neuron_owns_its_surrogate_gradient():
    v = torch.linspace(-1, 3, 9, dtype=torch.float64)
    _, _, eligibility = functional.lif_steps([v], Triangular())
    assert eligibility.equal((1 - (v - 1).abs()).clamp(min=0))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("neuron", [None, NEURON, Triangular(*NEURON)], ids=repr)
def test_at_one_time_step_a_layer_is_its_own_bptt(neuron, frozen):
    """Values, all gradients and statistics, with a norm in training or one that is frozen."""
    found = []
    for by_rates in (True, False):
        module = layer(ConvNorm if neuron is None else ConvNormLIF)
        module.neuron = neuron
        module.norm.running_mean.fill_(0.3)
        module.norm.train(not frozen)
        maps = spikes(1, B, 4, 6, 5), torch.linspace(-1, 1, B * 180).double().view(1, B, 6, 6, 5)
        if by_rates:
            x, residual = (pair_of(values, 1) for values in maps)
            leaves = x.rate, residual.rate
        else:
            leaves = [values[0].requires_grad_() for values in maps]
            x, residual = (ThroughTime(leaf, 1, False) for leaf in leaves)
        out = module(x, residual)
        backward(out)
        gradients = [leaf.grad for leaf in (*leaves, *module.parameters())]
        found.append([out.rate, *gradients, *module.buffers()])
    torch.testing.assert_close(*found)
    assert module.norm.num_batches_tracked == (not frozen)


def test_counts_of_spikes_lose_nothing():
    """Keeping the input rate in one byte gives the gradients of keeping it whole."""
    found = [gradients(layer(), pair(max_count=max_count)) for max_count in (1, 0)]
    torch.testing.assert_close(*found, rtol=1e-13, atol=1e-14)


def test_counts_at_hand_are_kept_themselves_once_for_all_who_read_them():
    """In place of what each reader would make of the rate, with the same gradients."""
    first, found, kept = layer(), [], []
    for at_hand in (True, False):
        x = first(pair())
        x = x if at_hand else x._replace(counts=None)
        units = [ConvNorm(6, 5, 3).double(), ConvNorm(6, 5, 1, 2).double()]
        parameters = [p for unit in units for p in unit.parameters()]
        for p in parameters:
            torch.nn.init.constant_(p, 0.3)
        kept.append(saved_bytes(lambda x=x, units=units: [unit(x) for unit in units], parameters))
        loss = sum(unit(x).rate.square().sum() for unit in units)
        found.append(torch.autograd.grad(loss, [x.rate, *parameters]))
    assert all(map(torch.equal, *found))
    assert kept[0] == kept[1] - x.rate[..., ::2, ::2].numel()  # that the second has for its own


def test_memory_kept_for_backward_does_not_grow_with_time():
    x = torch.randn(2, 3, 8, 8)
    kept = []
    for steps in (1, 4, 9):
        net = build_model("resnet18", num_classes=3, T=steps, width=4, branch_pool=None)
        kept.append(saved_bytes(lambda net=net: net(x), net.parameters()))
    assert kept[0] == kept[1] == kept[2]


def test_neurons_on_a_train_of_bytes_have_the_gradient_of_numbers():
    found = []
    for dtype in (torch.float64, torch.uint8):
        x = pair(dtype)
        out = LIFLayer(NEURON)(x)
        backward(out)
        found.append([out.train, out.rate, x.rate.grad])
    assert all(map(torch.equal, *found))
    assert found[0][-1].count_nonzero() > 0


@pytest.mark.parametrize("kind", [ConvNormLIF, LIFLayer])
def test_second_derivatives_are_refused(kind):
    module, x = LIFLayer(NEURON) if kind is LIFLayer else layer(), pair()
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(module(x).rate.sum(), x.rate, create_graph=True)


NAMES = ("conv.weight", "conv.bias", "norm.weight", "norm.bias")


@pytest.mark.parametrize("frozen", [*([name] for name in NAMES), NAMES], ids=str)
def test_a_frozen_parameter_changes_no_other_gradient(frozen):
    expected = gradients(layer(), pair())
    module = layer()
    for name in frozen:
        module.get_parameter(name).requires_grad_(False)
        del expected[name]
    torch.testing.assert_close(gradients(module, pair()), expected)
    assert all(module.get_parameter(name).grad is None for name in frozen)


def test_no_grad_leaves_no_graph_and_the_same_values():
    module = layer()
    expected = module(pair())
    with torch.no_grad():
        own = module(pair())
    assert own.rate.grad_fn is None and expected.rate.grad_fn is not None
    torch.testing.assert_close(own.rate, expected.rate)


def network() -> RateModel:
    """The same weights every time."""
    torch.manual_seed(0)
    options = {"num_classes": 3, "T": 2, "width": 4, "branch_pool": None, "thresh": 0.5}
    return build_model("resnet18", method="rate", **options).double()


def result_of_training(net: nn.Module, layout: torch.memory_format) -> list[Tensor]:
    """Logits, gradients and buffers of one step."""
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    (logits,) = net(x.contiguous(memory_format=layout))
    logits.square().sum().backward()
    return [logits, *(p.grad for p in net.parameters()), *net.buffers()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_train_alike_in_every_layout(duplicate, layout):
    net = network()
    twin = duplicate(net).to(memory_format=layout)
    assert twin.execution == net.execution
    found = result_of_training(twin, layout)
    assert all(p.grad is None for p in net.parameters())
    expected = result_of_training(net, torch.contiguous_format)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_bf16_autocast_keeps_state_and_statistics_in_fp32():
    """Spikes and what is kept are bf16; norms' statistics, rates and all gradients fp32."""
    module, x = layer().float(), pair(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    backward(out)
    assert out.train.dtype == torch.bfloat16
    assert {t.dtype for t in [out.rate, *module.norm.buffers()]} == {torch.float32, torch.int64}
    assert {t.grad.dtype for t in (x.rate, *module.parameters())} == {torch.float32}
    counts = out.rate * T
    assert counts.equal(counts.round())  # bf16 sums of rates would not be whole


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("in_backward", [None, torch.bfloat16])
def test_maps_are_converted_for_the_convolutions_backward_alone(in_backward, autocast):
    """Counts of spikes to its dtype, and its gradient to that of rates."""
    first, unit = ConvNormLIF(4, 4, 3, neuron=NEURON), layer(bias=False).float()
    x = pair(torch.float32, execution=Execution(convolution_backward=in_backward))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        x = first(x)
        x = x._replace(rate=x.rate.detach().requires_grad_())
        with MapCasts(6, 5) as forward:
            out = unit(x)
    with MapCasts(6, 5) as casts:
        backward(out)
    assert forward.found == []
    low = torch.bfloat16 if autocast else in_backward
    expected = [(torch.uint8, low or torch.float32), (low, torch.float32)]
    assert casts.found == (expected if low else expected[:1])


def test_bf16_backward_leaves_the_forward_alone_and_the_gradient_close():
    found = []
    for dtype in (None, torch.bfloat16):
        module = layer(bias=False).float()  # a bias before a norm has no gradient
        x = pair(torch.float32, execution=Execution(convolution_backward=dtype))
        with torch.no_grad():
            out = module(x)
        found.append(([out.train, out.rate], gradients(module, x)))
    (forward, expected), (other_forward, own) = found
    assert all(map(torch.equal, forward, other_forward))
    for name, exact in expected.items():
        assert own[name].dtype == torch.float32
        close = 0.02 * float(exact.abs().max())
        torch.testing.assert_close(own[name], exact, rtol=0, atol=close)
    assert not all(own[name].equal(exact) for name, exact in expected.items())
