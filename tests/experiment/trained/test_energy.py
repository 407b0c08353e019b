"""The energy command: table, JSON and picture of what `operations` counts."""

import json

import pytest

from experiment.imagenet import main as imagenet
from experiment.trained.energy import main
from experiment.trained.part.operations import count_operations
from model.inference.fold import fold
from tests.support.image_files import write_image_folder
from tests.support.trained_run import first_samples, make_checkpoint, make_trained


def test_the_command_writes_the_mean_over_the_images(tmp_path, capsys):
    trained = make_trained(tmp_path)
    result = main([trained.path, "--images", 5, "--batch_size", 2, "--device", "cpu"])
    operations = count_operations(fold(trained.net), first_samples(trained, 5)[0])
    assert result["energy_pJ"] == pytest.approx(operations.energy)
    assert result["ann_energy_pJ"] == pytest.approx(operations.ann_energy)
    total = sum(layer["energy_pJ"] for layer in result["layers"]) + 0.9 * result["other_acs"]
    assert result["energy_pJ"] == pytest.approx(total)
    folder = tmp_path / "energy-best"
    assert json.loads((folder / "energy.json").read_text()) == result
    assert (folder / "energy.png").read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:]] for line in lines if "|" in line]
    rows = {name: others for name, *others in cells}
    rates = result["firing_rate"]
    mean = f"{sum(rates.values()) / len(rates):.3f}"
    assert rows["total"][:3] == [mean, f"{result['macs']:,.0f}", f"{result['synops']:,.0f}"]
    assert rows["total"][4] == f"{result['ann_macs']:,.0f}"
    assert rows["stem.conv"][:2] == [f"{rates['stem']:.3f}", "18,432"]  # 2 x 9 x 32 x 32
    unit = next(layer for layer in result["layers"] if layer["name"] == "stages.0.0.unit1")
    assert rows[unit["name"]][:3] == [f"{rates[unit['name']]:.3f}", "0", f"{unit['acs']:,.0f}"]


def test_of_a_small_test_set_all_images_are_taken(tmp_path):
    data = write_image_folder(tmp_path / "data", classes=3, train=1)
    flags = ("--data_path", str(data))
    path = make_checkpoint(tmp_path, *flags, experiment=imagenet)
    assert main([path, *flags, "--device", "cpu"])["images"] == 3
