"""Times by a clock of the test, and the memory of this process."""

import pytest
import torch

from experiment.train import clock as clocks
from experiment.train.clock import Stopwatch
from tests.support.micro_training import ONE_PROCESS


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(clocks.time, "process_time", lambda: 2 * now[0])  # of two threads

    def advance(seconds):
        now[0] += seconds

    return advance


def test_waiting_and_images_per_second(clock):
    def batches():
        for _ in range(4):
            clock(0.25)
            yield "batch"

    watch = Stopwatch(ONE_PROCESS)
    assert watch.report()["images_per_second"] == 0  # without a step
    for batch in watch.timed(batches()):
        assert batch == "batch"
        clock(1.0)
        watch.count(10)
    clock(50.0)  # an evaluation does not count
    report = watch.report()
    assert report["seconds"] == 5.0
    assert report["images_per_second"] == 8.0
    assert report["cpu_seconds"] == 10.0
    assert report["data_wait"] == pytest.approx(0.2)


def test_an_epoch_that_goes_on_has_the_time_of_all_its_steps(clock):
    """Not what passes between them, and each process its share of the images."""
    before = ()
    for _ in range(2):
        watch = Stopwatch(ONE_PROCESS._replace(world_size=3), before)
        list(watch.timed(clock(0.5) for _ in range(1)))
        clock(1.5)
        before = watch.count(4)
        clock(50.0)
    assert before == (3 * 2 * 4, 4.0, 8.0, 1.0)
    report = Stopwatch(ONE_PROCESS, before).report()  # stopped in its evaluation
    assert (report["seconds"], report["cpu_seconds"]) == (4.0, 8.0)
    assert (report["images_per_second"], report["data_wait"]) == (6.0, 0.25)


def test_peak_memory_is_that_of_the_process():
    before = Stopwatch(ONE_PROCESS).report()["peak_memory_mib"]
    block = torch.ones(before.__ceil__() * 2**18 + 2**24)  # as much again, and 64 MiB
    after = Stopwatch(ONE_PROCESS).report()["peak_memory_mib"]
    assert after - before >= 32
    assert block.numel() > 0
