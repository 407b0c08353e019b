"""The energy command: table, JSON and picture of what `operations` counts."""

import json

import pytest
import torch

from experiment.imagenet import main as imagenet
from experiment.trained.checkpoint import load_trained
from experiment.trained.command import refuse_many
from experiment.trained.energy import main
from experiment.trained.operations import count_operations
from model.inference.fold import fold
from tests.support.image_files import write_image_folder
from tests.support.trained_run import make_checkpoint
from util.distributed import Group


def test_the_command_writes_the_mean_over_the_images(tmp_path, capsys):
    path = make_checkpoint(tmp_path)
    result = main([str(path), "--images", "5", "--batch_size", "2", "--device", "cpu"])
    trained = load_trained(path, torch.device("cpu"))
    x = trained.data.to_input(torch.stack([trained.data.test[i][0] for i in range(5)]))
    operations = count_operations(fold(trained.net), x)
    assert result["energy_pJ"] == pytest.approx(operations.energy)
    assert result["ann_energy_pJ"] == pytest.approx(operations.ann_energy)
    total = sum(layer["energy_pJ"] for layer in result["layers"]) + 0.9 * result["other_acs"]
    assert result["energy_pJ"] == pytest.approx(total)
    folder = tmp_path / "energy"
    assert json.loads((folder / "energy.json").read_text()) == result
    assert (folder / "energy.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "4.6 pJ per MAC, 0.9 pJ per AC" in printed and "not counted: " in printed
    assert f"{result['ann_macs']:,.0f}" in printed


def test_several_processes_are_refused():
    with pytest.raises(ValueError, match="2 processes: this command runs in one"):
        refuse_many(Group(0, 2, torch.device("cpu")))


def test_of_a_small_test_set_all_images_are_taken(tmp_path):
    data = write_image_folder(tmp_path / "data", classes=3, train=1)
    flags = ("--data_path", str(data))
    path = make_checkpoint(tmp_path, *flags, experiment=imagenet)
    assert main([str(path), *flags, "--device", "cpu"])["images"] == 3


def test_more_images_than_there_are_end_with_a_sentence_and_code_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([str(make_checkpoint(tmp_path)), "--images", "361"])
    assert exit_.value.code == 2
    assert "--images 361: the test set has only 360" in capsys.readouterr().err
