"""Neurons, batch norm and loss against the published code's numbers, in float64."""

import pytest
import torch
import torch.nn.functional as F

from model import functional, kernel
from model.baseline import through_time
from model.distillation import SelfDistillationLoss, reliable_teacher
from model.functional import Neuron
from model.kernel import DEFAULT_EXECUTION, Maps, Source
from model.layer import ConvNorm, LIFLayer
from model.rate_pair import Facts, RatePair
from tests.support import golden
from tests.support.published_loss import published_loss

LIF_CASES = golden.constants("lif.npz")["cases"]
BN_CASES = golden.constants("bn.npz")["cases"]
LOSS_CASES = golden.constants("losses.npz")["cases"]
CONSISTENT_BN_CASES = [name for name, stored in BN_CASES.items() if not stored["optional"]]
TEACHER_EPSILON = 1e-7  # relative; the published teacher has a 1e-8 in its denominator


@pytest.fixture(params=LIF_CASES)
def lif(request) -> tuple[dict, dict]:
    """The constants of a case, and its arrays."""
    return LIF_CASES[request.param], golden.tensors("lif.npz", request.param)


@pytest.fixture(params=BN_CASES)
def bn(request) -> tuple[dict, dict]:
    return BN_CASES[request.param], golden.tensors("bn.npz", request.param)


@pytest.fixture(params=LOSS_CASES)
def losses(request) -> dict:
    return golden.tensors("losses.npz", request.param)


def neuron_of(stored: dict) -> Neuron:
    v_reset = 0.0 if stored["mode"] == "hard0" else None
    detach_reset = stored["mode"] == "soft_detach"
    return Neuron(stored["decay"], stored["thresh"], v_reset, detach_reset)


def eligibility_of(expected: dict) -> torch.Tensor:
    """The derivative of the rate; the published code has another one at a threshold other than 1
    if the reset is not detached, and the golden data then hold both."""
    return expected.get("elig_exact", expected["elig"])


def with_kernel(x, *neuron):
    """The kernel that is chosen, used as if it were `functional.lif_rate`."""
    fired = kernel.fire(Source(Maps(x)), Neuron(*neuron), len(x), DEFAULT_EXECUTION)
    return fired.train, fired.rate, fired.eligibility


@pytest.mark.parametrize("lif_rate", [functional.lif_rate, with_kernel])
def test_spikes_rates_and_eligibilities(lif, lif_rate):
    stored, expected = lif
    spikes, rate, eligibility = lif_rate(expected["x"], *neuron_of(stored))
    assert torch.equal(spikes, expected["spikes"].to(spikes.dtype))
    assert_close(rate, expected["mean"], 1e-12)
    assert_close(eligibility, eligibility_of(expected), 1e-13)
    alone = kernel.spikes(expected["x"], neuron_of(stored), stored["T"])  # as in inference
    assert torch.equal(alone, spikes)


def test_backpropagation_through_time_of_a_constant_offset_is_the_eligibility(lif):
    stored, expected = lif
    offset = torch.zeros_like(expected["mean"]).requires_grad_()
    spikes = through_time.lif_through_time(expected["x"] + offset, neuron_of(stored))
    spikes.mean(0).backward(expected["grad_out"])
    assert torch.equal(spikes, expected["spikes"].to(spikes.dtype))
    assert_close(offset.grad, expected["grad_out"] * eligibility_of(expected), 1e-13)


def test_gradient_through_a_firing_rate(lif):
    stored, expected = lif
    x = expected["x"]
    rate_input = x.mean(0).requires_grad_()
    pair = RatePair(x.flatten(0, 1), rate_input, Facts(len(x)))
    LIFLayer(neuron_of(stored))(pair).rate.backward(expected["grad_out"])
    wanted = expected["grad_out"] * eligibility_of(expected)
    assert_close(rate_input.grad, wanted, 1e-13)
    if stored["thresh"] == 1.0:
        assert_close(rate_input.grad, expected["grad_x"], 1e-13)


@pytest.mark.parametrize("batch_statistics", [functional.batch_statistics, kernel.batch_statistics])
def test_batch_statistics_normalise_the_spike_train(bn, batch_statistics):
    stored, expected = bn
    x = expected["x_spike"].flatten(0, 1)
    affine = expected["gamma"], expected["beta"]
    out = F.batch_norm(x, *batch_statistics(x), *affine, eps=stored["eps"])
    assert_close(out.view_as(expected["spike_out"]), expected["spike_out"], 1e-11)


def test_batch_norm_s_constants_are_its_affine_map(bn):
    stored, expected = bn
    x = expected["x_spike"].flatten(0, 1)
    affine = expected["gamma"], expected["beta"]
    constants = functional.batch_norm_constants(
        *functional.batch_statistics(x), *affine, stored["eps"]
    )
    mean, inverse_std, scale, shift = (functional.per_channel(row, x) for row in constants)
    assert_close((scale * x + shift).view_as(expected["spike_out"]), expected["spike_out"], 1e-11)
    gamma, beta = (functional.per_channel(value, x) for value in affine)
    assert_close(scale * x + shift, gamma * (x - mean) * inverse_std + beta, 1e-11)


def test_batch_norm_backward_centres_bfloat16_in_fp32():
    """A mean over many values, far from zero, is no number of eight bits."""
    generator = torch.Generator().manual_seed(2)
    y = (torch.randn(4, 3, 9, 7, generator=generator) + 10).to(torch.bfloat16)
    grad = torch.randn(4, 3, 9, 7, generator=generator)
    mean, variance = functional.batch_statistics(y.float())
    arguments = mean, torch.rsqrt(variance), torch.ones(3)
    own, *_ = functional.rate_batch_norm_backward(grad, y, *arguments)
    expected, *_ = functional.rate_batch_norm_backward(grad, y.float(), *arguments)
    torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)


def test_batch_norm_backward_in_its_general_form(bn):
    """Also where the rate is not the time mean of the spike train (`_inconsistent`)."""
    stored, expected = bn
    mean, variance = functional.batch_statistics(expected["x_spike"].flatten(0, 1))
    inverse_std = torch.rsqrt(variance + stored["eps"])
    grad_y, grad_gamma, grad_beta = functional.rate_batch_norm_backward(
        expected["grad_out"], expected["x_rate"], mean, inverse_std, expected["gamma"]
    )
    assert_close(grad_gamma, expected["grad_gamma"], 1e-11)
    assert_close(grad_beta, expected["grad_beta"], 1e-11)
    wanted = expected["grad_x"]
    if stored["optional"] and stored["const_channel"] is not None:
        # A rate that varies though its spike train does not: impossible in a network. The
        # published code cuts the variance's derivative there (relu at 0).
        kept = [c for c in range(wanted.shape[1]) if c != stored["const_channel"]]
        wanted, grad_y = wanted[:, kept], grad_y[:, kept]
    assert_close(grad_y, wanted, 1e-11)


@pytest.mark.parametrize("bn", CONSISTENT_BN_CASES, indirect=True)
def test_layer_with_an_identity_convolution_is_the_published_batch_norm(bn):
    stored, expected = bn
    layer = identity_convolution(stored, expected)
    rate_input = expected["x_rate"].requires_grad_()
    out = layer(RatePair(expected["x_spike"].flatten(0, 1), rate_input, Facts(stored["T"])))
    out.rate.backward(expected["grad_out"])

    assert_close(out.train.view_as(expected["spike_out"]), expected["spike_out"], 1e-11)
    assert_close(out.rate, expected["rate_out"], 1e-11)
    assert_close(rate_input.grad, expected["grad_x"], 1e-11)
    assert_close(layer.norm.weight.grad, expected["grad_gamma"], 1e-11)
    assert_close(layer.norm.bias.grad, expected["grad_beta"], 1e-11)
    assert_close(layer.norm.running_mean, expected["running_mean_1"], 1e-12)
    assert_close(layer.norm.running_var, expected["running_var_1"], 1e-12)
    assert layer.norm.num_batches_tracked == expected["num_batches_tracked"][1]


def identity_convolution(stored: dict, expected: dict) -> ConvNorm:
    """A 1x1 convolution that copies its input, followed by the case's batch norm."""
    channels = len(expected["gamma"])
    layer = ConvNorm(channels, channels, 1).double()
    layer.norm.eps, layer.norm.momentum = stored["eps"], stored["momentum"]
    layer.load_state_dict(
        {
            "conv.weight": torch.eye(channels, dtype=torch.float64)[..., None, None],
            "norm.weight": expected["gamma"],
            "norm.bias": expected["beta"],
            "norm.running_mean": expected["running_mean_0"],
            "norm.running_var": expected["running_var_0"],
            "norm.num_batches_tracked": expected["num_batches_tracked"][0],
        }
    )
    return layer


def test_teacher(losses):
    teacher, reliable = reliable_teacher(losses["logits"], losses["labels"])
    assert torch.equal(reliable, losses["valid"])
    assert_close(teacher, losses["teacher_noeps"], 1e-12)
    assert_close(teacher, losses["teacher"], TEACHER_EPSILON * losses["teacher"].abs().max())


@pytest.mark.parametrize("formula", ["cifar", "dvs", "imagenet"])
def test_loss_and_its_gradient(losses, formula):
    """Equal to the published formula, up to its 1e-8 and to where it applies alp (`cifar`)."""
    labels = losses["labels"]
    for run, alp, beta in runs_of(losses, formula):
        heads = losses["logits"].clone().requires_grad_()
        loss = SelfDistillationLoss(alp, beta)(list(heads), labels)
        loss.total.backward()

        hard = losses["ce"][-1] + alp * losses["ce"][:-1].sum()
        soft = losses["kd"].sum()
        published, gradient = losses[f"{run}/loss"], losses[f"{run}/grad"]
        if not losses["valid"].any():
            assert published.isnan()
            soft, published = torch.zeros_like(soft), losses[f"{run}/ce_part"]
        if formula == "cifar":  # multiplies the last head's cross-entropy by alp as well
            published = published + (1 - alp) * losses["ce"][-1]
            gradient[-1] += (1 - alp) * cross_entropy_gradient(losses["logits"][-1], labels)
        assert_close(loss.hard, hard, 1e-12 * hard)
        assert_close(loss.soft, soft, TEACHER_EPSILON * soft)
        assert_close(loss.total, published, TEACHER_EPSILON * published)
        assert_close(heads.grad, gradient, TEACHER_EPSILON * gradient.abs().max())
        assert loss.reliable == losses["valid"].double().mean()


def test_loss_without_the_published_epsilon_is_exact(losses):
    """The published formula with a plain mean for a teacher, to rounding."""
    if not losses["valid"].any():
        wanted = cross_entropy_gradient(losses["logits"], losses["labels"])
        wanted[:-1] *= 0.7
    else:
        reference = losses["logits"].clone().requires_grad_()
        published_loss(
            reference, losses["labels"], formula="imagenet", alp=0.7, beta=0.3, epsilon=0.0
        ).total.backward()
        wanted = reference.grad
    heads = losses["logits"].clone().requires_grad_()
    SelfDistillationLoss(0.7, 0.3)(list(heads), losses["labels"]).total.backward()
    assert_close(heads.grad, wanted, 1e-14)


def runs_of(expected: dict, formula: str) -> list[tuple[str, float, float]]:
    """(prefix of the arrays, alp, beta) of every golden run of a formula."""
    runs = []
    for key in expected:
        run, _, kind = key.rpartition("/")
        if kind == "loss" and run.startswith(formula):
            weights = [float(part.lstrip("alpbet")) for part in run.split("_")[1:]]
            runs.append((run, *([1.0, *weights] if formula == "dvs" else weights)))
    assert runs
    return runs


def cross_entropy_gradient(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(softmax - one-hot) / B."""
    one_hot = F.one_hot(labels, logits.shape[-1])
    return (logits.softmax(-1) - one_hot) / len(labels)


def assert_close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=0, atol=float(tolerance))
