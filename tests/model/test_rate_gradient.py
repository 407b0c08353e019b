"""What autograd and its users do with the one pass: freezing, precision, processes.

That the gradients of networks are right is for the golden and two-stage tests; here those of one
layer are compared with autograd's, and others with themselves under another use.
"""

import copy
import pickle

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from benchmark.measure import saved_bytes
from model import Execution, build_model, functional, rate_gradient
from model.activation import Activation
from model.baseline.through_time import ThroughTime
from model.convolution import Convolution, Geometry
from model.functional import Neuron
from model.kernel import DEFAULT_EXECUTION, Maps
from model.layer import ConvNorm, ConvNormLIF, LIFLayer, Linear
from model.rate_gradient import LayerPass, Plan
from model.rate_pair import RatePair
from tests.support.activations import pair_of, spikes
from tests.support.data_parallel import run_rank, shard_gradients, small_network

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


def gradients(module: nn.Module, x: RatePair) -> list[Tensor]:
    return [x.rate.grad, *(p.grad for p in module.parameters())]


def layer_pass(*, from_batch: bool, fires: bool) -> LayerPass:
    """Of random numbers, in float64; its current alone is that of its convolution."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    x, weight, bias = random(B, 3, 6, 5), random(4, 3, 3, 3) - 0.5, random(4)
    geometry = Geometry(stride=(2, 1), padding=(1, 0))
    current = Convolution(weight, bias, geometry)(x)
    mean, variance = functional.batch_statistics(current)
    return LayerPass(
        rate=torch.rand_like(current),
        x=x,
        residual=torch.rand_like(current),
        weight=weight,
        bias=bias,
        gamma=random(4),
        beta=random(4),
        mean=mean if from_batch else random(4),
        inverse_std=variance.rsqrt() if from_batch else random(4),
        mean_current=current,
        eligibility=torch.rand_like(current) if fires else None,
        plan=Plan(
            geometry,
            from_batch,
            average=None,
            execution=DEFAULT_EXECUTION,
            count_steps=None,
            dtype=torch.float64,
            rate_is_mean=True,
        ),
    )


def linearised(passed: LayerPass) -> Tensor:
    """eligibility * (gamma (conv(x) - mean) inverse_std + beta + residual), under autograd."""
    y = Convolution(passed.weight, passed.bias, passed.plan.geometry)(passed.x)
    mean, inverse_std = passed.mean, passed.inverse_std
    if passed.plan.from_batch:
        mean, variance = functional.batch_statistics(y)
        inverse_std = variance.rsqrt()
    scale = passed.gamma * inverse_std
    out = Maps(y[None], scale, passed.beta - mean * scale).mapped()[0] + passed.residual
    return out if passed.eligibility is None else out * passed.eligibility


@pytest.mark.parametrize("fires", [True, False])
@pytest.mark.parametrize("from_batch", [True, False])
def test_a_layer_s_gradients_are_autograd_s_field_for_field(from_batch, fires):
    """The rate's value stays what the forward pass found."""
    passed = layer_pass(from_batch=from_batch, fires=fires)
    names = ("x", "residual", "weight", "bias", "gamma", "beta")
    leaves = [getattr(passed, name).requires_grad_() for name in names]
    out = rate_gradient.of_layer(passed)
    assert out.equal(passed.rate)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    own = torch.autograd.grad(out, leaves, weights)
    wanted = torch.autograd.grad(linearised(passed), leaves, weights)
    for name, gradient, exact in zip(names, own, wanted, strict=True):
        torch.testing.assert_close(
            gradient, exact, rtol=1e-11, atol=1e-12, msg=lambda text, name=name: name + text
        )


def test_a_compiled_layer_has_the_same_gradients():
    found = []
    for compiled in (False, True):
        module, x = layer(), pair()
        run = torch.compile(module, backend="eager", fullgraph=True) if compiled else module
        backward(run(x))
        found.append(gradients(module, x))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)


def test_counts_of_spikes_lose_nothing():
    """Keeping the input rate in one byte gives the gradients of keeping it whole."""
    found = []
    for max_count in (1, 0):
        module, x = layer(), pair(max_count=max_count)
        backward(module(x))
        found.append(gradients(module, x))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-13, atol=1e-14)


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
    for own, expected in zip(*found, strict=True):
        assert own.equal(expected)
    assert found[0][-1].count_nonzero() > 0


@pytest.mark.parametrize("kind", [ConvNormLIF, LIFLayer])
def test_second_derivatives_are_refused(kind):
    module, x = LIFLayer(NEURON) if kind is LIFLayer else layer(), pair()
    with pytest.raises(RuntimeError, match="cannot be differentiated again"):
        torch.autograd.grad(module(x).rate.sum(), x.rate, create_graph=True)


@pytest.mark.parametrize("frozen", ["conv.weight", "conv.bias", "norm.weight", "norm.bias"])
def test_a_frozen_parameter_changes_no_other_gradient(frozen):
    module, x = layer(), pair()
    backward(module(x))
    expected = dict(zip(("x", *dict(module.named_parameters())), gradients(module, x), strict=True))

    module, x = layer(), pair()
    module.get_parameter(frozen).requires_grad_(False)
    backward(module(x))
    own = dict(zip(("x", *dict(module.named_parameters())), gradients(module, x), strict=True))
    assert own.pop(frozen) is None
    for name, grad in own.items():
        torch.testing.assert_close(grad, expected[name])


def test_a_layer_without_trainable_parameters_passes_the_gradient_on():
    module, x = layer(), pair()
    backward(module(x))
    expected = x.rate.grad
    module, x = layer().requires_grad_(False), pair()
    backward(module(x))
    torch.testing.assert_close(x.rate.grad, expected)


@pytest.mark.parametrize("kind", [ConvNorm, ConvNormLIF])
def test_a_frozen_norm_is_an_affine_map(kind):
    """With running statistics, the current's gradient is grad * eligibility * gamma / sigma."""
    module, x = layer(kind), pair()
    module.norm.eval()
    module.norm.running_mean.normal_()
    module.norm.running_var.uniform_(0.5, 2)
    out = module(x)
    out.rate.sum().backward()
    if kind is ConvNorm:
        rate = x.rate.detach().requires_grad_()
        module.norm(module.conv(rate)).sum().backward()
        torch.testing.assert_close(x.rate.grad, rate.grad)
    assert module.norm.num_batches_tracked == 0
    assert module.norm.bias.grad.abs().sum() > 0


def test_no_grad_leaves_no_graph_and_the_same_values():
    module = layer()
    expected = module(pair())
    with torch.no_grad():
        own = module(pair())
    assert own.rate.grad_fn is None and expected.rate.grad_fn is not None
    torch.testing.assert_close(own.rate, expected.rate)


def test_gradients_accumulate():
    module, x = layer(), pair()
    backward(module(x))
    once = [g.clone() for g in gradients(module, x)]
    backward(module(x))
    for total, single in zip(gradients(module, x), once, strict=True):
        torch.testing.assert_close(total, 2 * single)


def test_channels_last_and_contiguous_inputs_agree():
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        net = small_network().to(memory_format=layout)
        x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2)).double()
        (logits,) = net(x.contiguous(memory_format=layout))
        logits.square().sum().backward()
        found.append([logits, *(p.grad for p in net.parameters())])
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_train_alike(duplicate):
    net = small_network()
    twin = duplicate(net)
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    for one in (net, twin):
        one(x)[0].square().sum().backward()
    assert twin.execution == net.execution
    for own, expected in zip(twin.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=0, atol=0)


class Triangular(Neuron):
    """g = max(0, 1 - |v - threshold|), a surrogate gradient of one's own."""

    def surrogate_gradient(self, v):
        return (1 - (v - self.threshold).abs()).clamp(min=0)


def test_a_neuron_owns_its_surrogate_gradient():
    """After one step the eligibility is that; whoever calls it, it is the neuron's own."""
    x = torch.linspace(-1, 3, 9, dtype=torch.float64)
    _, _, eligibility = functional.lif_steps([x], Triangular())
    assert eligibility.equal((1 - (x - 1).abs()).clamp(min=0))


@pytest.mark.parametrize("kind", [Neuron, Triangular])
def test_one_time_step_has_the_surrogate_gradient(kind):
    """At T = 1 the eligibility is the surrogate gradient: the layer is its own BPTT."""
    module, x = layer(), pair_of(spikes(1, B, 4, 6, 5), 1, max_count=1)
    module.neuron = kind(*module.neuron)
    backward(module(x))
    own = gradients(module, x)
    module.zero_grad()
    rate = x.rate.detach().requires_grad_()
    backward(module(ThroughTime(rate, 1, False)))
    expected = [rate.grad, *(p.grad for p in module.parameters())]
    for gradient, wanted in zip(own, expected, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_one_value_per_channel_is_refused():
    net = build_model("resnet18", num_classes=3, T=1, width=4, branch_pool=None, method="rate")
    with pytest.raises(ValueError, match="more than one value per channel to train, got one"):
        net(torch.randn(1, 3, 8, 8))


def test_two_processes_average_the_gradients_of_their_shards(tmp_path):
    """DistributedDataParallel over gloo gives the mean of what each shard gives alone."""
    multiprocessing.spawn(run_rank, (2, str(tmp_path)), nprocs=2)
    averaged = torch.load(tmp_path / "gradients.pt")
    shards = [shard_gradients(small_network(), rank) for rank in range(2)]
    for own, *parts in zip(averaged, *shards, strict=True):
        torch.testing.assert_close(own, sum(parts) / 2, rtol=1e-9, atol=1e-12)


def test_bf16_autocast_keeps_state_and_statistics_in_fp32():
    """Spikes and what is kept are bf16; norms' statistics, rates and all gradients fp32."""
    module, x = layer().float(), pair(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = module(x)
    backward(out)
    assert out.train.dtype == torch.bfloat16
    assert {t.dtype for t in [out.rate, *module.norm.buffers()]} == {torch.float32, torch.int64}
    assert {g.dtype for g in gradients(module, x)} == {torch.float32}
    counts = out.rate * T
    assert counts.equal(counts.round())  # bf16 sums of rates would not be whole


def test_bf16_backward_leaves_the_forward_alone_and_the_gradient_close():
    found = []
    for dtype in (None, torch.bfloat16):
        module = layer(bias=False).float()  # a bias before a norm has no gradient
        x = pair(torch.float32, execution=Execution(convolution_backward=dtype))
        out = module(x)
        backward(out)
        found.append([out.train, out.rate, *gradients(module, x)])
    (train, rate, *own), (other_train, other_rate, *expected) = found[1], found[0]
    assert train.equal(other_train) and rate.equal(other_rate)
    differs = False
    for grad, exact in zip(own, expected, strict=True):
        assert grad.dtype == torch.float32
        torch.testing.assert_close(grad, exact, rtol=0, atol=0.02 * float(exact.abs().max()))
        differs |= not grad.equal(exact)
    assert differs


def test_linear_layers_commute_with_the_mean():
    x = pair().map(lambda maps: maps.flatten(1))
    module = Linear(120, 5).double()
    out = module(x)
    torch.testing.assert_close(out.over_time().mean(0), out.rate)
