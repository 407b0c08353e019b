"""Metrics agree with the plain computation over all samples at once."""

import math

import pytest
import torch

from util.checkpoint import load_checkpoint, save_checkpoint
from util.misc import WeightedMeans, parameter_groups, top_k_correct

# --- weighted means ----------------------------------------------------------------------------


def test_means_over_uneven_batches_equal_the_mean_over_all_samples():
    samples = torch.randn(103, 4)
    meter = WeightedMeans()
    for batch in samples.split(10):  # the last one holds 3
        meter.update(
            {
                "loss": batch[:, 0].mean(),
                "rates": batch.mean(0),
                "plain": float(batch[:, 1].mean()),
            },
            len(batch),
        )
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


def test_negative_weights_are_refused():
    with pytest.raises(ValueError, match="-1"):
        WeightedMeans().update({"x": 1.0}, -1)


# --- top-k -------------------------------------------------------------------------------------


def test_counts_equal_a_sort_by_hand():
    logits = torch.randn(57, 11)
    labels = torch.randint(11, (57,))
    counts = top_k_correct(logits, labels, ks=(1, 3, 5))
    for k, count in counts.items():
        expected = sum(
            label in sorted(range(11), key=row.__getitem__)[-k:]
            for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
        )
        assert count == expected
        assert count.dtype == torch.int64


def test_heads_are_counted_separately():
    logits = torch.randn(3, 20, 7)
    labels = torch.randint(7, (20,))
    together = top_k_correct(logits, labels)
    for head in range(3):
        alone = top_k_correct(logits[head], labels)
        assert all(together[k][head] == alone[k] for k in (1, 5))
    assert torch.equal(together[1], (logits.argmax(-1) == labels).sum(-1))


def test_a_network_that_says_nothing_is_not_right_about_everything():
    labels = torch.arange(10).repeat(3)
    assert top_k_correct(torch.zeros(30, 10), labels)[1] == 3
    assert top_k_correct(torch.zeros(30, 10), labels)[5] == 15


def test_fewer_classes_than_k():
    labels = torch.tensor([0, 1, 2, 2])
    assert top_k_correct(torch.randn(4, 3), labels)[5] == 4


@pytest.mark.parametrize(
    ("logits", "labels"), [((4, 3), (5,)), ((3,), (3,)), ((2, 4, 3), (2,)), ((4, 3), (4, 1))]
)
def test_shapes_that_do_not_fit_are_refused(logits, labels):
    with pytest.raises(ValueError, match="do not fit"):
        top_k_correct(torch.zeros(logits), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize("ks", [(), (0,), (1, -5)])
def test_k_below_one_is_refused(ks):
    with pytest.raises(ValueError, match="k of a top-k"):
        top_k_correct(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), ks=ks)


# --- parameter groups --------------------------------------------------------------------------


def small_network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3),
        torch.nn.BatchNorm2d(5),
        torch.nn.Flatten(),
        torch.nn.Linear(5, 7),
        torch.nn.Bilinear(2, 3, 4, bias=False),
    )


def test_only_weights_decay():
    network = small_network()
    decayed, plain = parameter_groups(network, 5e-4)
    assert decayed["weight_decay"] == 5e-4
    assert plain["weight_decay"] == 0.0
    assert [p.ndim for p in decayed["params"]] == [4, 2, 3]
    assert [tuple(p.shape) for p in plain["params"]] == [(5,), (5,), (5,), (7,)]


def test_a_bias_of_two_dimensions_does_not_decay():
    network = torch.nn.Module()
    network.weight = torch.nn.Parameter(torch.zeros(2, 2))
    network.bias = torch.nn.Parameter(torch.zeros(2, 2))
    network.gain = torch.nn.Parameter(torch.zeros(()))
    decayed, plain = parameter_groups(network, 0.1)
    assert decayed["params"] == [network.weight]
    assert [id(p) for p in plain["params"]] == [id(network.bias), id(network.gain)]


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
    assert math.isclose(optimizer.param_groups[0]["lr"], 0.1)


def test_frozen_and_shared_parameters():
    network = small_network()
    network[0].requires_grad_(False)
    network.append(network[3])
    groups = parameter_groups(network, 0.1)
    assert sum(len(group["params"]) for group in groups) == 5  # each once


def test_empty_groups_are_left_out_and_empty_models_refused():
    assert len(parameter_groups(torch.nn.BatchNorm2d(3), 0.1)) == 1
    with pytest.raises(ValueError, match="no trainable"):
        parameter_groups(torch.nn.ReLU(), 0.1)
    with pytest.raises(ValueError, match=r"-0\.1"):
        parameter_groups(small_network(), -0.1)
