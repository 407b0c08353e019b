"""An evaluation counts every sample exactly once and leaves the network as it was."""

import copy
from multiprocessing.process import BaseProcess

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from experiment.train.evaluation import evaluate, evaluation_sums, observed_firing_rates
from tests.support.host_copies import HostCopies
from tests.support.micro_training import (
    micro_data,
    micro_images,
    micro_network,
    micro_recipe,
    micro_training,
)


def evaluation_of(net, dataset, batch_size, num_workers=0, **options):
    recipe = micro_recipe(val_batch_size=batch_size, num_workers=num_workers)
    training = micro_training(recipe, micro_data(test=dataset))
    return evaluate(net, training, "test", **options)


@pytest.mark.parametrize("batch_size", [1, 4, 13, 100])
def test_an_evaluation_counts_every_sample_once(batch_size):
    net, dataset = micro_network(), micro_images(13, seed=2)
    images, labels = dataset.tensors
    result = evaluation_of(net, dataset, batch_size)
    with torch.no_grad(), observed_firing_rates(net) as rates:
        heads = net.eval().head_logits(images.float() / 64)
    assert result["samples"] == 13
    assert result["loss"] == pytest.approx(float(F.cross_entropy(heads[-1], labels)), rel=1e-5)
    right = [int((logits.argmax(1) == labels).sum()) for logits in heads]
    assert result["head_top1"] == [100 * count / 13 for count in right]
    assert result["top1"] == 100 * right[-1] / 13
    assert result["top5"] == 100.0  # there are five classes
    assert result["firing_rate"] == pytest.approx({k: float(v) for k, v in rates.items()})
    assert any(rate > 0 for rate in result["firing_rate"].values())


def test_an_evaluation_leaves_the_network_as_it_was():
    net = micro_network()
    before = copy.deepcopy(net.state_dict())
    random_state = torch.get_rng_state()
    evaluation_of(net, micro_images(7, seed=2), 3)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in net.modules())


def test_what_an_evaluation_adds_up_neither_leaves_a_gpu_nor_comes_to_it():
    """It would wait there for every batch. Seen on fake tensors, which need no GPU."""
    with FakeTensorMode(), torch.device("cuda"):
        logits, labels = torch.randn(3, 4, 5), torch.randint(5, (4,))
        with HostCopies() as copies:
            sums = evaluation_sums(logits, labels)
    assert copies.found == []
    assert {value.device.type for value in sums.values()} == {"cuda"}


def test_images_in_memory_are_evaluated_without_other_processes(monkeypatch):
    net, images = micro_network(), micro_images(10_000, seed=2)
    before = evaluation_of(net, images, 2000)
    monkeypatch.setattr(BaseProcess, "start", lambda process: pytest.fail("a process begins"))
    assert evaluation_of(net, images, 2000, num_workers=8) == before
