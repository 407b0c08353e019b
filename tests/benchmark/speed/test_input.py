"""Images per second: what the pipelines make, what the loader hands on, what a step takes."""

import pytest
import torch

from benchmark.speed import input as benchmark_input
from benchmark.speed.workload import Workload


@pytest.fixture
def photographs(tmp_path):
    return benchmark_input.write_photographs(tmp_path)


def test_every_pipeline_gives_what_a_network_is_fed(photographs):
    found = benchmark_input.pipelines(photographs)
    assert [pipeline.size for pipeline in found] == [32, 224, 224, 224, 224]
    for pipeline in found:
        image, _ = pipeline.images[0, 40]
        assert image.dtype == torch.uint8 and image.shape == (3, pipeline.size, pipeline.size)
    assert 50 < benchmark_input.mean_kilobytes(photographs) < 120


@pytest.mark.parametrize("which", [0, 1])
def test_rates_are_of_images(photographs, which):
    images = benchmark_input.pipelines(photographs)[which].images
    alone = benchmark_input.rate_of_one_process(images, seconds=0.2)
    loaded = benchmark_input.rate_of_loader(images, 1, seconds=0.2)
    assert 10 < alone < 1e7 and 10 < loaded < 1e7


def test_keys_repeat_and_stay_within_the_data():
    keys = benchmark_input.RandomKeys(5)
    first, again = iter(keys), iter(keys)
    drawn = [next(first) for _ in range(100)]
    assert drawn == [next(again) for _ in range(100)]
    assert {index for _, index in drawn} == set(range(5))


def test_a_step_has_a_rate():
    assert 0.1 < benchmark_input.rate_of_step(Workload("resnet18", 1, 2, width=2)) < 1e5


def test_the_command_puts_the_steps_demand_beside_each_input(capsys, monkeypatch):
    """One process makes 1,000 images/s, the step takes 2,500 of 32 pixels, and 10 of 224."""
    monkeypatch.setattr(benchmark_input, "rate_of_one_process", lambda images, seconds: 1000)
    monkeypatch.setattr(benchmark_input, "rate_of_loader", lambda images, workers, seconds: 1900)
    rates = {32: 2500, 224: 10}
    monkeypatch.setattr(benchmark_input, "rate_of_step", lambda step: rates[step.size])
    benchmark_input.main(["--workers", "2", "--imagenet_batch", "4", "--T", "3", "--width", "5"])
    printed = capsys.readouterr().out
    assert "step: resnet18, 32 x 32 pixels, width 5, T = 3, 16 images, on cpu" in printed
    assert "step: preact_resnet34, 224 x 224 pixels, width as published, T = 4, 4" in printed
    lines = [line.strip("|").split("|") for line in printed.splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line[1:]] for line in lines)
    assert header[:2] == ["one process", "loader, 2 workers"]
    assert rows == [["1000", "1900", "2500", "3"], *4 * [["1000", "1900", "10", "1"]]]
    benchmark_input.main([])
    last = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")]
    assert last[1:-1] == ["ImageNet test, reader torchvision", "1000", "", ""]
