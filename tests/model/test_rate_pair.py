"""The two parts of an activation stay each other's train and mean, whatever is done to both.

Shapes: T time steps, B batch.
"""

import pytest
import torch

from model.functional import Neuron, lif_rate, spike_counts
from model.kernel import Execution
from model.layer import ConvNorm, LIFLayer, Linear, MaxPool, Shortcut
from model.rate_pair import Facts, RatePair
from tests.support.activations import assert_mean, pair_of, spikes

T, B = 3, 2
NEURONS = [Neuron(threshold=0.5), Neuron(0.3, 0.6, None, False), Neuron(0.4, 0.5, -0.1)]


def pair(*, constant: bool = False, sparse: bool = False, seed: int = 1) -> RatePair:
    """Spikes (T*B, 4, 6, 5), or (B, 4, 6, 5) if constant, and their rate, a leaf."""
    train = spikes(1 if constant else T, B, 4, 6, 5, seed=seed)
    train = train.to(torch.uint8) if sparse else train
    return pair_of(train, T, max_count=1, execution=Execution(sparse=sparse))


def layer(kind: type[ConvNorm], kernel_size: int, stride: int = 1, **options: object) -> ConvNorm:
    """From four channels to four, in float64, with a bias and a norm that scales and shifts."""
    torch.manual_seed(kernel_size)
    made = kind(4, 4, kernel_size, stride, bias=True, **options).double()
    with torch.no_grad():
        for parameter in made.norm.parameters():
            parameter.uniform_(0.5, 1.5)
    return made


def test_steps_are_read_off_the_two_parts():
    assert (pair().steps, pair(constant=True).steps) == (T, 1)
    assert pair().over_time().shape == (T, B, 4, 6, 5)
    assert pair(constant=True).over_time().shape == (1, B, 4, 6, 5)


def test_an_operation_acts_on_both_parts_and_is_differentiated_at_the_rate():
    x = pair()
    out = x.map(lambda maps: 0.3 * maps.flatten(1))
    assert_mean(out)
    assert out.facts == Facts(T)
    out.rate.sum().backward()
    assert x.rate.grad.eq(0.3).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_values_that_are_only_selected_stay_counts_and_others_become_numbers(sparse):
    x = pair(sparse=sparse)
    pooled = x.max_pool(MaxPool(2))
    assert (pooled.facts.max_count, pooled.train.dtype) == (1, x.train.dtype)
    mean = x.map(lambda maps: maps.mean((-2, -1)))
    assert (mean.facts.max_count, mean.train.dtype) == (0, x.rate.dtype)
    assert_mean(mean)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("constant", [(False, False), (True, False), (True, True)])
def test_sums_are_counts_of_the_spikes_of_both(constant, sparse):
    x, y = (pair(constant=c, sparse=sparse, seed=i) for i, c in enumerate(constant))
    out = x.add(y)
    assert_mean(out)
    assert (out.facts.max_count, out.train.dtype) == (2, x.train.dtype)
    assert int(out.train.max()) == 2


def test_a_sum_with_values_that_are_no_counts_is_none():
    numbers = pair_of(spikes(T, B, 4, 6, 5), T, rate_is_mean=False)
    out = pair(sparse=True).add(numbers)
    assert out.train.is_floating_point()
    assert out.facts.max_count == 0 and not out.facts.rate_is_mean


def test_a_sum_that_no_byte_holds_is_no_byte():
    x = pair_of(200 * spikes(T, B, 4, 6, 5).to(torch.uint8), T, max_count=200)
    assert_mean(x.add(x))


@pytest.mark.parametrize("constant", [False, True])
def test_a_pair_knows_until_neurons_fire_whether_its_rate_is_the_mean(constant):
    """Max pooling takes the maximum of the mean, as the published rate pass does."""
    x, pool, unit = pair(constant=constant), MaxPool(2), layer(ConvNorm, 3)
    pooled = pool(x)
    assert pooled.train.equal(pool.pool(x.train)) and pooled.rate.equal(pool.pool(x.rate))
    fire, linear = LIFLayer(NEURONS[0]), Linear(2, 3).double()
    for out in (pooled, unit(pooled), pooled.shortcut(unit), linear(pooled), pooled.add(pooled)):
        assert out.facts.rate_is_mean is constant
    for out in (fire(pooled), fire(unit(pooled)), pooled.conv_norm(unit, neuron=NEURONS[0])):
        assert out.facts.rate_is_mean
        assert_mean(out)


@pytest.mark.parametrize("steps", [1, 4, 9])
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_neurons_fire_for_the_time_steps_of_a_constant_pair(neuron, steps):
    """Train, rate and gradient are those of `functional.lif_rate` on the repeated current."""
    x = pair_of(torch.randn(1, B, 4, 6, 5, dtype=torch.float64), steps)
    out = LIFLayer(neuron)(x)
    train, rate, eligibility = lif_rate(x.train.expand(steps, *x.train.shape), *neuron)
    assert out.over_time().equal(train)
    assert out.facts == Facts(steps, max_count=1)
    torch.testing.assert_close(out.rate, rate, rtol=1e-13, atol=1e-14)
    (gradient,) = torch.autograd.grad(out.rate.sum(), x.rate)
    torch.testing.assert_close(gradient, eligibility, rtol=1e-13, atol=1e-14)


def test_a_rate_is_kept_as_a_count_where_one_byte_holds_it():
    assert Facts(85, max_count=3).count_steps == 85
    assert Facts(86, max_count=3).count_steps is None
    assert Facts(1).count_steps is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counts_are_those_that_a_rate_was_made_of(dtype):
    for steps in range(1, 256):
        counts = torch.arange(steps + 1)
        assert spike_counts(counts.to(dtype) / steps, steps).equal(counts.to(torch.uint8))


def test_counts_go_wherever_the_pair_does_until_values_are_no_counts():
    """Whoever has them at hand passes them on; whatever is no count of spikes has none."""
    fire, unit = LIFLayer(NEURONS[0]), layer(ConvNorm, 3)
    x, y = fire(pair()), pair().conv_norm(unit, neuron=NEURONS[1])
    for out in (x, y, x.add(y), x.add(x).add(y)):
        assert out.counts.dtype == torch.uint8
        assert out.counts.equal(out.over_time().sum(0).to(torch.uint8))
    for out in (pair(), pair().add(x), unit(x), x.shortcut(unit), x.map(torch.neg)):
        assert out.counts is None
    pooled = x.max_pool(MaxPool(2))  # no counts of the train's maxima
    assert pooled.counts is None and pooled.facts.max_count == 1


def test_a_sum_of_counts_that_no_byte_holds_has_none():
    x = pair_of(torch.ones(130, 1, 2, 3, 3, dtype=torch.float64), 130)
    out = LIFLayer(Neuron())(x)
    assert out.counts is not None and out.add(out).counts is None


# A shortcut leaves its affine map to the layer that adds it.


@pytest.mark.parametrize("neuron", [None, NEURONS[0]], ids=str)
@pytest.mark.parametrize("constant", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("sparse", [False, True])
def test_a_shortcut_that_is_added_is_a_conv_norm_that_is_added(sparse, constant, neuron):
    """Trains, rates, all gradients and running statistics."""
    found = []
    for verb in (RatePair.shortcut, RatePair.conv_norm):
        unit, shortcut = layer(ConvNorm, 3, 2), layer(Shortcut, 1, 2)
        x, y = (pair(constant=c, seed=i, sparse=sparse) for i, c in enumerate(constant))
        residual = verb(y, shortcut)
        assert (residual.facts.scale is not None) is (verb is RatePair.shortcut)
        out = x.conv_norm(unit, residual, neuron)
        assert_mean(out)
        weights = torch.linspace(-1, 1, out.rate.numel(), dtype=torch.float64)
        (out.rate.flatten() * weights).sum().backward()
        parameters = [*unit.parameters(), *shortcut.parameters()]
        gradients = [value.grad for value in (x.rate, y.rate, *parameters)]
        buffers = [*unit.buffers(), *shortcut.buffers()]
        found.append([out.train, out.rate, residual.rate, *gradients, *buffers])
        assert y.rate.grad.norm() > 0 and shortcut.norm.weight.grad.norm() > 0
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)


TAKES_NO_SHORTCUT = {
    "conv_norm": lambda x, other: x.conv_norm(layer(ConvNorm, 3)),
    "strided conv_norm": lambda x, other: x.conv_norm(layer(ConvNorm, 1, 2)),
    "shortcut": lambda x, other: x.shortcut(layer(Shortcut, 1)),
    "fire": lambda x, other: x.fire(LIFLayer(NEURONS[0])),
    "linear": lambda x, other: x.linear(Linear(5, 3).double()),
    "map": lambda x, other: x.map(torch.neg),
    "max_pool": lambda x, other: x.max_pool(MaxPool(2)),
    "add": lambda x, other: x.add(other),
    "to be added": lambda x, other: other.add(x),
}


@pytest.mark.parametrize("verb", TAKES_NO_SHORTCUT)
def test_nothing_else_takes_a_shortcut(verb):
    run, x = TAKES_NO_SHORTCUT[verb], pair()
    unit = layer(Shortcut, 3)
    run(x.conv_norm(unit), x)
    with pytest.raises(AssertionError):
        run(x.shortcut(unit), x)
