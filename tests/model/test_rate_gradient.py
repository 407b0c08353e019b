"""What autograd and its users do with the one pass: freezing, checkpointing, precision, processes.

That its gradients are right is for the golden and two-stage tests; here they are compared with
themselves under another use.
"""

import copy
import pickle

import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from model import Execution, build_model
from model.functional import Neuron
from model.layer import ConvNorm, ConvNormLIF, LIFLayer, Linear
from model.rate_pair import RatePair, map_pair
from model.recompute import recomputed
from tests.support.data_parallel import run_rank, shard_gradients, small_network

T, B = 3, 2
NEURON = Neuron(threshold=0.5)


def pair(channels: int = 4, *, max_count: int = 1) -> RatePair:
    """Spikes (T*B, channels, 6, 5) and their rate, a leaf."""
    generator = torch.Generator().manual_seed(1)
    train = (torch.rand(T * B, channels, 6, 5, generator=generator) < 0.4).double()
    return RatePair(train, train.unflatten(0, (T, B)).mean(0).requires_grad_(), max_count)


def layer(kind=ConvNormLIF, *, bias: bool = True) -> ConvNorm:
    torch.manual_seed(0)
    options = {"neuron": NEURON} if kind is ConvNormLIF else {}
    return kind(4, 6, 3, steps=T, bias=bias, **options).double()


def backward(out: RatePair) -> None:
    weight = torch.linspace(-1, 1, out.rate.numel(), dtype=out.rate.dtype)
    (out.rate.flatten() * weight).sum().backward()


def gradients(module: nn.Module, x: RatePair) -> list[Tensor]:
    return [x.rate.grad, *(p.grad for p in module.parameters())]


def test_counts_of_spikes_lose_nothing():
    """Keeping the input rate in one byte gives the gradients of keeping it whole."""
    found = []
    for max_count in (1, 0):
        module, x = layer(), pair(max_count=max_count)
        backward(module(x))
        found.append(gradients(module, x))
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-13, atol=1e-14)


def kept_bytes(forward) -> int:
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result
    return sum(storage.nbytes() for storage in storages.values())


def test_memory_kept_for_backward_does_not_grow_with_time():
    x = torch.randn(2, 3, 8, 8)
    kept = []
    for steps in (1, 4, 9):
        net = build_model("resnet18", num_classes=3, T=steps, width=4, branch_pool=None)
        kept.append(kept_bytes(lambda net=net: net(x)))
    assert kept[0] == kept[1] == kept[2]


def test_neurons_on_a_train_of_bytes_have_the_gradient_of_numbers():
    found = []
    for dtype in (torch.float64, torch.uint8):
        x = pair()
        out = LIFLayer(T, NEURON)(x._replace(train=x.train.to(dtype)))
        backward(out)
        found.append([out.train, out.rate, x.rate.grad])
    for own, expected in zip(*found, strict=True):
        assert own.equal(expected)
    assert found[0][-1].count_nonzero() > 0


@pytest.mark.parametrize("kind", [ConvNormLIF, LIFLayer])
def test_second_derivatives_are_refused(kind):
    module, x = LIFLayer(T, NEURON) if kind is LIFLayer else layer(), pair()
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


def test_recomputation_changes_neither_gradients_nor_statistics():
    found = []
    for run in (lambda module, x: module(x), recomputed):
        module, x = layer(), pair()
        backward(run(module, x))
        found.append([*gradients(module, x), *module.buffers()])
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=0)


def test_recomputation_keeps_the_input_alone():
    module, x = layer(), pair()
    parameters = sum(p.nbytes for p in module.parameters())
    kept = kept_bytes(lambda: recomputed(module, x))
    assert kept <= x.train.nbytes + x.rate.nbytes + parameters < kept_bytes(lambda: module(x)) * 9


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


def test_one_time_step_has_the_surrogate_gradient():
    """At T = 1 the eligibility is the surrogate gradient: the layer is its own BPTT."""
    torch.manual_seed(0)
    module = ConvNormLIF(4, 6, 3, steps=1, neuron=NEURON).double()
    x = (torch.rand(B, 4, 6, 5) < 0.4).double().requires_grad_()
    backward(module(RatePair(x.detach(), x, True)))
    own = [x.grad, *(p.grad for p in module.parameters())]
    x.grad = None
    module.zero_grad()
    backward(RatePair(x, module(x)))
    for grad, expected in zip(own, [x.grad, *(p.grad for p in module.parameters())], strict=True):
        torch.testing.assert_close(grad, expected)


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
    module, x = layer().float(), pair()
    x = RatePair(x.train.float(), x.rate.detach().float().requires_grad_(), True)
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
        module, x = layer(bias=False).float(), pair()  # a bias before a norm has no gradient
        x = RatePair(
            x.train.float(), x.rate.detach().float().requires_grad_(), True,
            Execution(convolution_backward=dtype),
        )  # fmt: skip
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
    x = map_pair(lambda maps: maps.flatten(1), pair())
    module = Linear(120, 5).double()
    out = module(x)
    torch.testing.assert_close(out.over_time().mean(0), out.rate)
