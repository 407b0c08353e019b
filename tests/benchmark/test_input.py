import pytest
import torch

from benchmark import input as benchmark_input


@pytest.fixture
def photographs(tmp_path):
    return benchmark_input.write_photographs(tmp_path)


def test_every_pipeline_gives_what_a_network_is_fed(photographs):
    found = benchmark_input.pipelines(photographs)
    assert [pipeline.size for pipeline in found] == [32, 32, 224, 224, 224, 224]
    for pipeline in found:
        image, _ = pipeline.images[0, 40]
        if pipeline.augmentation is not None:
            image = image.images
        assert image.dtype == torch.uint8 and image.shape == (3, pipeline.size, pipeline.size)
    left_to_the_device = [pipeline for pipeline in found if pipeline.augmentation is not None]
    assert [pipeline.name.endswith("--gpu_aug") for pipeline in left_to_the_device] == [True]
    assert left_to_the_device[0].augmentation.auto_aug and left_to_the_device[0].augmentation.cutout
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


def test_the_command_puts_the_steps_demand_beside_each_input(capsys, monkeypatch):
    """One process makes 1,000 images/s, the step takes 2,500 of 32 pixels, and 10 of 224."""
    monkeypatch.setattr(benchmark_input, "rate_of_one_process", lambda images, seconds: 1000)
    monkeypatch.setattr(benchmark_input, "rate_of_loader", lambda images, workers, seconds: 1900)
    monkeypatch.setattr(
        benchmark_input, "rate_of_step", lambda step: 2500 if step.size == 32 else 10
    )
    monkeypatch.setattr(
        benchmark_input, "rate_of_augmentation", lambda *images, batch, device: 10_000
    )
    benchmark_input.main(["--workers", "2", "--imagenet_batch", "4", "--T", "3", "--width", "5"])
    printed = capsys.readouterr().out
    assert "step: resnet18, 32 x 32 pixels, width 5, T = 3, 16 images, on cpu" in printed
    assert "step: preact_resnet34, 224 x 224 pixels, width as published, T = 4, 4" in printed
    header, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in printed.splitlines() if line.startswith("|")
    )  # fmt: skip
    assert header[1:3] == ["one process", "loader, 2 workers"]
    assert [row[1:] for row in rows] == [
        ["1000", "1900", "", "2500", "3"],
        ["1000", "1900", "10000", "2000", "2"],  # 1 / (1 / 2500 + 1 / 10000)
        *4 * [["1000", "1900", "", "10", "1"]],
    ]
    benchmark_input.main([])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| ImageNet test, reader torchvision | 1000 |  |  |")


def test_a_folder_that_is_not_there_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_input, "rate_of_step", lambda step: pytest.fail("measured"))
    with pytest.raises(FileNotFoundError, match="nowhere/train is not there: expected FOLDER/"):
        benchmark_input.main(["--data_path", str(tmp_path / "nowhere")])
