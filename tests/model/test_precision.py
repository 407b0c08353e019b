"""Convolutions of spikes in float16: where they are, how near they come, and what they can hold.

Layer by layer, since a spike that flips turns all that follows. Shapes: T time steps, B batch.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from model import MODELS, Execution, RateModel, build_model, functional
from model.functional import Neuron
from model.layer import AveragePool, ConvNorm, ConvNormLIF, LIFLayer, Linear, Shortcut
from model.rate_pair import RatePair
from tests.support.activations import pair_of, spikes

T, B = 3, 2
HALF = Execution(convolution_forward=torch.float16, convolution_backward=torch.bfloat16)
NEURON = Neuron(threshold=0.3)
SIZES = {"vgg11": 16, "vggsnn": 48, "resnet18": 9, "resnet19": 9}  # pixels; of the others 33
GRAPH_ENDS = ConvNorm | LIFLayer | Linear


def pair(execution: Execution = HALF, *, max_count: int = 1, factor: float = 1.0) -> RatePair:
    """factor times spikes (T*B, 4, 6, 5), fp32."""
    train = factor * spikes(T, B, 4, 6, 5).float()
    return pair_of(train, T, max_count=max_count, execution=execution)


def network(arch: str, execution: Execution, **options: object) -> RateModel:
    torch.manual_seed(0)
    options = {"num_classes": 3, "T": T, "width": 4, "branch_pool": None, **options}
    return build_model(arch, execution=execution, **options).train()


def images(arch: str) -> Tensor:
    size = SIZES.get(arch, 33)
    return torch.randn(B, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_convolutions_of_counts_are_in_float16_and_others_in_their_own_dtype():
    torch.manual_seed(0)
    layers = ConvNormLIF(4, 4, 3, neuron=NEURON), ConvNorm(4, 4, 3), Shortcut(4, 4, 1)
    for x, expected in (
        (pair(), torch.float16),
        (pair(max_count=3, factor=3), torch.float16),
        (layers[0](pair()), torch.float16),
        (layers[0](pair(max_count=0, factor=0.3)), torch.float16),  # spikes of an fp32 current
        (layers[1](pair()), torch.float16),  # currents, which are rounded already
        (pair(max_count=0, factor=0.3), torch.float32),
        (pair(Execution()), torch.float32),
    ):
        for layer in layers[1:]:
            out = layer(x)
            assert (out.train.dtype, out.rate.dtype) == (expected, torch.float32)


def test_a_linear_operation_is_in_the_dtype_of_the_rate():
    x = ConvNormLIF(4, 4, 3, neuron=NEURON)(pair())
    assert x.train.dtype == torch.float16
    pooled = AveragePool(2)(x)
    logits = Linear(4, 7)(x.map(lambda maps: maps.mean((-2, -1))))
    after_neurons = Linear(7, 2)(LIFLayer(NEURON)(logits))
    for out in (pooled, logits, after_neurons):
        assert (out.train.dtype, out.rate.dtype) == (torch.float32, torch.float32)
    assert pooled.facts.max_count == 0


def passes(net: RateModel, x: Tensor) -> Iterator[tuple[str, nn.Module, tuple, RatePair]]:
    """(name, layer, inputs, output) of every layer of a spiking network in a pass on x."""
    found = []
    for name, module in net.named_modules():
        if isinstance(module, GRAPH_ENDS):
            module.register_forward_hook(
                lambda layer, inputs, out, name=name: found.append((name, layer, inputs, out))
            )
    net(x)
    yield from found


def gradients(layer: nn.Module, inputs: tuple, execution: Execution) -> list[Tensor]:
    """Of what a layer makes of pairs alone: by its inputs' rates and its parameters."""
    leaves = []
    for x in inputs:
        rate = x.rate.detach().requires_grad_()
        leaves.append(x._replace(rate=rate, facts=x.facts._replace(execution=execution)))
    layer.zero_grad(set_to_none=True)
    out = type(layer).forward(layer, *leaves).rate
    weight = torch.linspace(-1, 1, out.numel()).view_as(out)
    (out * weight).sum().backward()
    # A bias before a norm has none.
    parameters = [p for name, p in layer.named_parameters() if name != "conv.bias"]
    return [leaf.grad for leaf in [*(x.rate for x in leaves), *parameters]]


@pytest.mark.parametrize("arch", MODELS)
def test_every_layer_of_every_network_has_gradients_close_to_those_of_fp32(arch):
    """Of the length of a gradient, bfloat16 in the backward and flipped spikes cost 3 %."""
    net, layers = network(arch, Execution()), 0
    for name, layer, inputs, _ in passes(net, images(arch)):
        exact, own = (gradients(layer, inputs, e) for e in (Execution(), HALF))
        scale = max(float(g.norm()) for g in exact)
        for g, expected in zip(own, exact, strict=True):
            assert g.dtype == torch.float32
            error = float((g - expected).norm())
            assert error <= 0.03 * max(float(expected.norm()), 0.01 * scale), (name, g.shape)
        layers += 1
    assert layers > 8


@pytest.mark.parametrize("arch", MODELS)
def test_every_network_takes_a_step(arch):
    """Frames as well as images; and it is evaluated in fp32."""
    net, x = network(arch, HALF), images(arch)
    for batch in (x, torch.stack([x] * T) + torch.arange(T).view(-1, 1, 1, 1, 1)):
        torch.stack(net(batch)).square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == p.dtype for p in net.parameters())
    assert {b.dtype for b in net.buffers()} == {torch.float32, torch.int64}
    for name, layer, _, out in passes(net, x):
        is_half = out.train.dtype == torch.float16
        assert is_half or not isinstance(layer, LIFLayer | ConvNormLIF), name
    maps = {out.maps.dtype for *_, out in passes(net.eval(), x)}
    assert maps == {torch.float32}


@pytest.mark.parametrize("execution", [{"backend": "reference"}, {"sparse": True}], ids=str)
@pytest.mark.parametrize("arch", ["resnet18", "sew_resnet18"])
def test_spikes_are_the_same_on_other_backends_and_as_bytes(arch, execution):
    outs = []
    for own in (HALF, HALF._replace(**execution)):
        net = network(arch, own, thresh=0.5)
        outs.append([out.train.float() for *_, out in passes(net, images(arch))])
    for first, second in zip(*outs, strict=True):
        assert (first != second).float().mean() < 2e-3


def rounded_error(exact: Tensor, dtype: torch.dtype) -> Tensor:
    return (exact.to(dtype).double() - exact).abs()


@pytest.mark.parametrize(
    "neuron",
    [Neuron(), Neuron(1.0), Neuron(detach_reset=False), Neuron(0.5, 1.0, 0.0)],
    ids=str,
)
def test_eligibilities_lose_less_in_float16_than_in_bfloat16(neuron):
    """They lie below T; of those below 2^-16 no more is lost than fp32 loses beside 1."""
    currents = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    _, _, exact = functional.lif_steps([currents] * 32, neuron)
    half, brain = (rounded_error(exact, d) for d in (torch.float16, torch.bfloat16))
    assert exact.abs().max() < 65504
    assert (half <= torch.clamp(brain, min=2**-24)).all()
    assert half.sum() < brain.sum() / 3


def test_currents_of_any_size_are_normalised_alike():
    """Batch norm multiplies by 1/sqrt(eps) at most, so that float16's least step stays small."""
    for scale in (1.0, 1e-3, 1e-5):
        torch.manual_seed(0)
        layer = ConvNorm(4, 4, 3)
        with torch.no_grad():
            layer.conv.weight *= scale
        exact, own = (layer(pair(e)).train.float() for e in (Execution(), HALF))
        assert (own - exact).abs().max() < 5e-3
