"""Metrics agree with the plain computation over all samples at once."""

import pytest
import torch
from sklearn.metrics import top_k_accuracy_score

from util.checkpoint import load_checkpoint, save_checkpoint
from util.misc import WeightedMeans, parameter_groups, top_k_correct


def test_means_over_uneven_batches_equal_the_mean_over_all_samples():
    samples = torch.randn(103, 4)
    meter = WeightedMeans()
    for batch in samples.split(10):  # the last one holds 3
        loss, rates = batch[:, 0].mean(), batch.mean(0)
        meter.update({"loss": loss, "rates": rates, "plain": float(rates[1])}, len(batch))
    means = meter.means()
    exact = samples.double().mean(0)
    assert means["loss"] == pytest.approx(exact[0].item(), abs=1e-7)
    assert means["rates"] == pytest.approx(exact.tolist(), abs=1e-7)
    assert means["plain"] == pytest.approx(exact[1].item(), abs=1e-7)
    assert type(means["loss"]) is float


def test_names_may_have_weights_of_their_own():
    meter = WeightedMeans()
    meter.update({"hard": 1.0, "soft": 5.0}, 2)
    meter.update({"hard": 4.0}, 1)
    meter.update({"soft": float("nan")}, 0)  # nothing was measured
    assert meter.means() == {"hard": 2.0, "soft": 5.0}
    assert WeightedMeans().means() == {}


def test_long_sums_do_not_lose_precision():
    meter = WeightedMeans()
    value = torch.tensor(0.1)
    for _ in range(20_000):
        meter.update({"x": value}, 128)
    assert meter.means()["x"] == pytest.approx(value.item(), rel=1e-12)


def test_a_mean_keeps_neither_graph_nor_alias():
    meter = WeightedMeans()
    value = torch.ones(3, dtype=torch.float64, requires_grad=True)
    meter.update({"x": value}, 1)
    with torch.no_grad():
        value.mul_(100)
    assert meter.means() == {"x": [1.0, 1.0, 1.0]}
    assert not meter.state_dict()["sums"]["x"].requires_grad


def test_going_on_from_a_checkpoint_is_exact(tmp_path):
    batches = [{"a": torch.randn(()), "b": torch.randn(3)} for _ in range(9)]
    unbroken, first = WeightedMeans(), WeightedMeans()
    for batch in batches:
        unbroken.update(batch, 7)
    for batch in batches[:4]:
        first.update(batch, 7)
    save_checkpoint(first.state_dict(), tmp_path / "last.pt")
    first.update(batches[0], 1)  # what came after the save is forgotten
    resumed = WeightedMeans()
    resumed.load_state_dict(load_checkpoint(tmp_path / "last.pt"))
    for batch in batches[4:]:
        resumed.update(batch, 7)
    assert resumed.means() == unbroken.means()


def test_counts_of_every_head_equal_those_of_scikit_learn():
    logits = torch.randn(3, 57, 11)
    labels = torch.randint(11, (57,))
    for k, counts in top_k_correct(logits, labels, ks=(1, 3, 5)).items():
        expected = [
            top_k_accuracy_score(labels, head, k=k, normalize=False, labels=range(11))
            for head in logits
        ]
        assert counts.tolist() == expected and counts.dtype == torch.int64
        assert top_k_correct(logits[1], labels, ks=(k,))[k] == counts[1]


def test_a_network_that_says_nothing_is_not_right_about_everything():
    labels = torch.arange(10).repeat(3)
    assert top_k_correct(torch.zeros(30, 10), labels) == {1: 3, 5: 15}


def test_fewer_classes_than_k():
    labels = torch.tensor([0, 1, 2, 2])
    assert top_k_correct(torch.randn(4, 3), labels)[5] == 4


@pytest.mark.parametrize(
    ("logits", "labels", "ks", "said"),
    [
        ((4, 3), (5,), (1,), "do not fit"),
        ((3,), (3,), (1,), "do not fit"),
        ((2, 4, 3), (2,), (1,), "do not fit"),
        ((4, 3), (4, 1), (1,), "do not fit"),
        ((2, 3), (2,), (), "k of a top-k"),
        ((2, 3), (2,), (1, -5), "k of a top-k"),
    ],
)
def test_what_cannot_be_counted_is_refused(logits, labels, ks, said):
    with pytest.raises(ValueError, match=said):
        top_k_correct(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64), ks=ks)


def small_network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3),
        torch.nn.BatchNorm2d(5),
        torch.nn.Flatten(),
        torch.nn.Linear(5, 7),
        torch.nn.Bilinear(2, 3, 4, bias=False),
    )


def test_one_step_of_sgd_shrinks_weights_only():
    network = small_network()
    before = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(parameter_groups(network, 0.5), lr=0.1)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, network.parameters(), strict=True):
        factor = 1 - 0.1 * 0.5 if new.ndim > 1 else 1.0
        assert torch.allclose(new, old * factor, rtol=1e-6, atol=0)


def test_frozen_and_shared_parameters_and_a_bias_of_two_dimensions():
    network = small_network()
    network[0].requires_grad_(False)
    network.append(network[3])
    network[3].bias = torch.nn.Parameter(torch.zeros(1, 7))
    decayed, plain = parameter_groups(network, 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(7, 5), (4, 2, 3)]  # each once
    assert [tuple(p.shape) for p in plain["params"]] == [(5,), (5,), (1, 7)]
    assert len(parameter_groups(torch.nn.BatchNorm2d(3), 0.1)) == 1  # no group without any


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: WeightedMeans().update({"x": 1.0}, -1), "-1"),
        (lambda: parameter_groups(torch.nn.ReLU(), 0.1), "no trainable"),
        (lambda: parameter_groups(small_network(), -0.1), "-0.1"),
    ],
)
def test_impossible_means_and_groups_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
