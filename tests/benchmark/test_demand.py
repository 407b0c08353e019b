import pytest
import torch
from torch.utils.data import TensorDataset

from benchmark import demand
from benchmark.contestant import Workload
from util.batch_augment import BatchAugmentation, KeyedDataset


def test_rates_count_the_images_of_a_call(monkeypatch):
    """Calls that take 0.5, 0.1, 0.2, ... seconds by a clock that they move themselves."""
    now, durations = [0.0], iter([9.0, 0.5, 0.1, 0.2, 0.4, 0.3])  # the first is not timed
    monkeypatch.setattr("benchmark.measure.time.perf_counter", lambda: now[0])

    def call():
        now[0] += next(durations)

    assert demand._rate_of(call, images=6, device="cpu") == pytest.approx(20)  # 6 / 0.3


def test_a_step_and_an_augmentation_have_a_rate():
    workload = Workload("resnet18", 1, 2, branches=True, width=2)
    assert 0.1 < demand.rate_of_step(workload) < 1e5
    images = KeyedDataset(
        TensorDataset(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), torch.arange(5))
    )
    augmentation = BatchAugmentation(0, 1, True, True, True)
    rate = demand.rate_of_augmentation(augmentation, images, batch=12, device="cpu")
    assert 10 < rate < 1e7


def test_the_demand_in_workers():
    assert demand.one_after_the_other(30, 60) == pytest.approx(20)
    assert demand.workers_to_feed(2500, 1000) == 3
    assert demand.workers_to_feed(1000, 1000) == demand.workers_to_feed(1, 1000) == 1
