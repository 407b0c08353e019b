"""The two-stage oracle itself against the golden neurons, norms and losses, and small networks.

The oracle is what the one-pass implementation is compared with on shapes that the golden data
does not hold, so it has to reproduce the published code's numbers first.
"""

import pytest
import torch
from spikingjelly.activation_based import neuron as spikingjelly_neuron
from spikingjelly.activation_based import surrogate

from benchmark.reference.two_stage import TwoStageNet
from benchmark.reference.two_stage_layers import LIF, TwoStageBatchNorm
from tests.support import golden
from tests.support.golden_case import Subject, expected_arrays, mismatches, replay
from tests.support.published_loss import published_loss, published_teacher
from util.misc import parameter_groups

LIF_CASES = golden.constants("lif.npz")["cases"]
BN_CASES = golden.constants("bn.npz")["cases"]
LOSS_CASES = golden.constants("losses.npz")["cases"]
# One of each family: PreAct-ResNet-34 has more blocks of the same kind than 18.
NETWORK_CASES = [
    golden.NetworkCase(name)
    for name in ("resnet18_c100_T4", "resnet19_dvs_T10_24", "preact_resnet18_T4_128")
]
DERIVED = {"hard_weighted", "reliable"}
DOUBLE = torch.float64


@pytest.mark.parametrize("name", LIF_CASES)
def test_neuron_is_the_published_one(name):
    stored, expected = LIF_CASES[name], golden.tensors("lif.npz", name)
    hard = stored["mode"] == "hard0"
    neuron = LIF(
        stored["T"],
        stored["decay"],
        stored["thresh"],
        0.0 if hard else None,
        stored["mode"] == "soft_detach",
    )
    x = expected["x"]
    spikes = neuron(x.flatten(0, 1)).view_as(x)
    neuron.stage = "rate"
    rate_input = x.mean(0).requires_grad_()
    rate = neuron(rate_input)
    rate.backward(expected["grad_out"])

    exact = expected.get("elig_exact", expected["elig"])
    assert torch.equal(spikes, expected["spikes"].to(DOUBLE))
    assert_close(rate, expected["mean"], 1e-12)
    assert_close(neuron.eligibility, exact, 1e-13)
    assert_close(rate_input.grad, expected["grad_out"] * exact, 1e-13)
    if stored["thresh"] == 1.0:
        assert_close(rate_input.grad, expected["grad_x"], 1e-13)


@pytest.mark.parametrize("T", range(1, 11))
@pytest.mark.parametrize(
    "v_reset, detach_reset", [(None, True), (None, False), (0.0, False)], ids=str
)
def test_eligibility_is_the_derivative_through_time(v_reset, detach_reset, T):
    """spikingjelly's gradient of the firing rate with respect to a constant input offset."""
    torch.manual_seed(T)
    x, offset = torch.randn(T, 5, 7, dtype=DOUBLE), torch.zeros(5, 7, dtype=DOUBLE)
    offset.requires_grad_()
    theirs = spikingjelly_neuron.LIFNode(
        tau=1 / (1 - 0.4),
        decay_input=False,
        v_threshold=0.7,
        v_reset=v_reset,
        surrogate_function=surrogate.Sigmoid(alpha=4.0),
        detach_reset=detach_reset,
        step_mode="m",
    )
    rate = theirs(x + offset).mean(0)
    rate.sum().backward()
    ours = LIF(T, 0.4, 0.7, v_reset, detach_reset)
    ours(x.flatten(0, 1))

    assert 0 < rate.mean() < 1
    assert torch.equal(ours.firing_rate, rate.detach())
    assert_close(ours.eligibility, offset.grad, 1e-13)


@pytest.mark.parametrize("name", BN_CASES)
def test_batch_norm_is_the_published_one(name):
    stored, expected = BN_CASES[name], golden.tensors("bn.npz", name)
    x = expected["x_spike"]
    norm = TwoStageBatchNorm(x.shape[2], eps=stored["eps"], momentum=stored["momentum"]).double()
    norm.load_state_dict(
        {
            "weight": expected["gamma"],
            "bias": expected["beta"],
            "running_mean": expected["running_mean_0"],
            "running_var": expected["running_var_0"],
            "num_batches_tracked": expected["num_batches_tracked"][0],
        }
    )
    with torch.no_grad():
        spike_out = norm(x.flatten(0, 1)).view_as(x)
    norm.stage = "rate"
    rate_input = expected["x_rate"].requires_grad_()
    rate_out = norm(rate_input)
    rate_out.backward(expected["grad_out"])

    assert_close(spike_out, expected["spike_out"], 1e-11)
    assert_close(rate_out, expected["rate_out"], 1e-11)
    assert_close(rate_input.grad, expected["grad_x"], 1e-11)
    assert_close(norm.weight.grad, expected["grad_gamma"], 1e-11)
    assert_close(norm.bias.grad, expected["grad_beta"], 1e-11)
    assert_close(norm.running_mean, expected["running_mean_1"], 1e-12)
    assert_close(norm.running_var, expected["running_var_1"], 1e-12)
    assert norm.num_batches_tracked == expected["num_batches_tracked"][1]


@pytest.mark.parametrize("name", LOSS_CASES)
def test_loss_is_the_published_one(name):
    expected = golden.tensors("losses.npz", name)
    logits, labels = expected["logits"], expected["labels"]
    assert_close(published_teacher(logits, labels), expected["teacher"], 1e-12)
    runs = {key.rpartition("/")[0] for key in expected if key.endswith("/loss")}
    assert len(runs) == 5
    for run in runs:
        formula, *rest = run.split("_")
        weights = {"alp": 1.0} | {part.rstrip("0123456789."): number(part) for part in rest}
        heads = logits.clone().requires_grad_()
        loss = published_loss(heads, labels, formula=formula, **weights)
        loss.total.backward()
        assert_close(loss.hard_per_head, expected["ce"], 1e-12)
        assert_close(loss.soft_per_head, expected["kd"], 1e-12)
        assert_close(loss.total, expected[f"{run}/loss"], 1e-12)
        assert_close(heads.grad, expected[f"{run}/grad"], 1e-12)


@pytest.mark.parametrize("arch", ["resnet18", "resnet19", "preact_resnet18", "preact_resnet34"])
def test_step_under_autocast(arch):
    """Mixed precision: finite gradients everywhere, running statistics stay fp32 and move once."""
    torch.manual_seed(0)
    network = TwoStageNet(arch, num_classes=5, T=3, width=4, branch_pool=None)
    with torch.autocast("cpu", torch.bfloat16):
        heads = network.train_step_logits(torch.randn(3, 3, 40, 44))
    torch.stack(heads).float().square().sum().backward()

    assert all(p.grad.isfinite().all() for p in network.parameters())
    for name, buffer in network.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert buffer == 1
        else:
            assert buffer.dtype == torch.float32 and buffer.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORK_CASES, ids=lambda case: case.name)
def test_network_is_the_published_one(case):
    """Every array of the case: logits, losses, gradients, statistics, rates, evaluations."""
    network = TwoStageNet(case.constants["arch"], **case.network_options).double()
    state = case.state()
    network.load_state_dict(state)
    record = replay(case, oracle_subject(network, case.constants))

    assert set(expected_arrays(case)) - set(record) == DERIVED
    assert mismatches(case, record, teacher_has_epsilon=True) == []


def oracle_subject(network: TwoStageNet, stored: dict) -> Subject:
    def loss(heads, labels):
        logits = torch.stack(heads)
        values = published_loss(
            logits, labels, formula=stored["formula"], alp=stored["alp"], beta=stored["beta"]
        )
        found = {**vars(values), "teacher": published_teacher(logits, labels)}
        found["loss"] = found.pop("total")
        return found

    def neurons():
        return {n: (m.firing_rate, m.eligibility) for n, m in network.neurons().items()}

    return Subject(
        network=network,
        parameters=dict(network.named_parameters()),
        buffers=dict(network.named_buffers()),
        groups=parameter_groups(network, weight_decay=golden.manifest()["wd"]),
        train=network.train_step_logits,
        evaluate=network.eval_heads,
        loss=loss,
        neurons=neurons,
    )


def number(part: str) -> float:
    """The number at the end of a word such as `beta0.3`."""
    return float(part.lstrip("abcdefghijklmnopqrstuvwxyz"))


def assert_close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance, equal_nan=True)
