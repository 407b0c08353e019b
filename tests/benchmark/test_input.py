import pytest

from benchmark import input as benchmark_input


@pytest.fixture
def photographs(tmp_path):
    return benchmark_input.write_photographs(tmp_path)


def test_every_pipeline_gives_what_a_network_is_fed(photographs):
    found = benchmark_input.pipelines(photographs)
    assert len(found) == 5
    shapes = [tuple(images[(0, 40)][0].shape) for _, images in found]
    assert shapes == [(3, 32, 32)] + 4 * [(3, 224, 224)]
    assert 50 < benchmark_input.mean_kilobytes(photographs) < 120


def test_rates_are_of_images(photographs):
    _, images = benchmark_input.pipelines(photographs)[0]
    alone = benchmark_input.rate_of_one_process(images, seconds=0.2)
    loaded = benchmark_input.rate_of_loader(images, 1, seconds=0.2)
    assert 10 < alone < 1e6 and 10 < loaded < 1e6


def test_keys_repeat_and_stay_within_the_data():
    keys = benchmark_input.RandomKeys(5)
    first, again = iter(keys), iter(keys)
    drawn = [next(first) for _ in range(100)]
    assert drawn == [next(again) for _ in range(100)]
    assert {index for _, index in drawn} == set(range(5))
