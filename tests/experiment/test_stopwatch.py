"""Throughput and waiting, measured with a clock that the test turns."""

import pytest
import torch

from experiment import stopwatch
from experiment.stopwatch import Stopwatch
from tests.support.micro_training import ONE_PROCESS


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def test_waiting_and_images_per_second(clock):
    def batches():
        for _ in range(4):
            clock(0.25)
            yield "batch"

    watch = Stopwatch(ONE_PROCESS)
    for batch in watch.timed(batches()):
        assert batch == "batch"
        clock(1.0)
        watch.count(10)
    clock(50.0)  # an evaluation does not count
    report = watch.report()
    assert report["seconds"] == 5.0
    assert report["images_per_second"] == 8.0
    assert report["data_wait"] == pytest.approx(0.2)


def test_peak_memory_is_that_of_the_process():
    before = Stopwatch(ONE_PROCESS).report()["peak_memory_mib"]
    block = torch.ones(before.__ceil__() * 2**18 + 2**24)  # as much again, and 64 MiB
    after = Stopwatch(ONE_PROCESS).report()["peak_memory_mib"]
    assert after - before >= 32
    assert block.numel() > 0


def test_an_epoch_without_a_step_has_no_speed(clock):
    assert Stopwatch(ONE_PROCESS).report()["images_per_second"] == 0
