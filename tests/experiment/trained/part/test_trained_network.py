"""A checkpoint alone rebuilds its network and its data."""

import json
from pathlib import Path

import pytest
import torch

from experiment.data_description import describe_data
from experiment.train.weights import load_whole
from experiment.trained.part.trained_network import load_trained
from tests.support.trained_run import CPU, make_checkpoint
from util.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

HARD, NO_BRANCHES = ("--arch", "resnet19", "--v_reset", "0"), ("--method", "rate", "--decay", "0.5")


@pytest.mark.parametrize("flags", [HARD, NO_BRANCHES])
def test_the_network_is_the_one_that_was_saved(tmp_path, flags):
    path = make_checkpoint(tmp_path, *flags)
    trained = load_trained(path, CPU)
    for name, value in load_checkpoint(path)["model"].items():
        assert torch.equal(trained.net.state_dict()[name], value), name
    assert trained.net.T == 3 and not trained.net.training
    assert (trained.data.name, trained.epochs) == ("Digits", 3)
    assert trained.net.neuron.v_reset == (0.0 if "--v_reset" in flags else None)
    assert bool(trained.net.branches) is ("rate" not in flags)


@pytest.fixture
def changed(checkpoint, tmp_path):
    """The shared checkpoint, alone in a folder, with other entries."""

    def save(**entries):
        save_checkpoint({**load_checkpoint(checkpoint), **entries}, tmp_path / "best.pt")
        return tmp_path / "best.pt"

    return save


def test_a_gpu_rounds_as_in_the_training(changed, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    arguments = load_checkpoint(changed())["arguments"]
    load_trained(changed(arguments=arguments | {"tf32": False}), CPU)
    assert not torch.backends.cudnn.allow_tf32
    del arguments["tf32"]  # as saved by a program that had no such flag
    load_trained(changed(arguments=arguments), CPU)
    assert torch.backends.cudnn.allow_tf32


def test_a_flag_that_is_gone_must_have_been_off(changed):
    arguments = load_checkpoint(changed())["arguments"]
    path = changed(arguments=arguments | {"gpu_aug": False})
    assert "gpu_aug" not in load_trained(path, CPU).arguments
    with pytest.raises(CheckpointError, match="saved with gpu_aug True"):
        load_trained(changed(arguments=arguments | {"gpu_aug": True}), CPU)


def test_records_are_those_that_the_checkpoint_has_seen(changed, tmp_path):
    path = changed()
    assert load_trained(path, CPU).records == []
    lines = "".join(json.dumps({"epoch": i}) + "\n" for i in range(5))
    (tmp_path / "metrics.jsonl").write_text(lines)
    assert [r["epoch"] for r in load_trained(path, CPU).records] == [0, 1, 2]


def test_data_path_is_that_of_config_json_unless_another_is_given(changed, tmp_path):
    path = changed()
    config = {"arguments": {"data_path": "there", "cache_path": "cache", "dataset": "Digits"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = load_trained(path, CPU).arguments
    assert [str(arguments[name]) for name in ("data_path", "cache_path")] == ["there", "cache"]
    other = load_trained(path, CPU, data_path=tmp_path / "here")
    assert other.arguments["data_path"] == tmp_path / "here"


def test_a_relative_data_path_of_an_earlier_version_is_found_from_elsewhere(tmp_path, monkeypatch):
    """From where its run was started, with the default --log_path, or where the program lies."""
    folder = tmp_path / "runs" / "run"
    folder.mkdir(parents=True)
    path = make_checkpoint(folder)
    config = {"arguments": {"data_path": "my data", "cache_path": None, "dataset": "Digits"}}
    (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "my data").mkdir()
    for place in (tmp_path, folder):
        monkeypatch.chdir(place)
        data_path = load_trained(path, CPU).arguments["data_path"]
        assert data_path.absolute() == tmp_path / "my data"
    (folder / "config.json").write_text(json.dumps({"arguments": {"data_path": "docs/flags.md"}}))
    beside_the_program = load_trained(path, CPU).arguments["data_path"]
    assert beside_the_program.samefile(Path(__file__).parents[4] / "docs/flags.md")


def test_a_data_path_that_is_not_read_is_warned_about(checkpoint, tmp_path, capsys):
    load_trained(checkpoint, CPU)
    assert capsys.readouterr().err == ""
    load_trained(checkpoint, CPU, data_path=tmp_path / "nowhere")
    sentence = "warning: no effect of --data_path: this --dataset needs no files\n"
    assert capsys.readouterr().err == sentence


def test_data_of_other_classes_are_refused(changed):
    data = load_checkpoint(changed())["data"]
    names = ["zero", *data["class_names"][1:]]
    path = changed(data=data | {"class_names": names})
    with pytest.raises(CheckpointError) as refusal:
        load_trained(path, CPU)
    sentence = str(refusal.value)
    assert f"{path} does not fit: it was trained on 10 classes ('zero', '1', " in sentence
    assert "class 0 is 'zero' to it and '0' in the data" in sentence
    assert load_trained(changed(data=None), CPU).description.class_names[0] == "0"


FOREIGN = ['{"arguments": [1]}', '{"arguments": {"T": 3}}', '{"arguments": {"data_path": 7}}']


@pytest.mark.parametrize("content", [*FOREIGN, "[]", "{"])
def test_a_config_json_that_is_none_of_ours_is_left_alone(changed, tmp_path, content):
    path = changed()
    default = load_trained(path, CPU).arguments["data_path"]
    (tmp_path / "config.json").write_text(content)
    assert load_trained(path, CPU).arguments["data_path"] == default


def test_weights_are_refused_by_a_network_of_another_stem(changed, trained):
    path, data = changed(), describe_data(trained.data)
    identity = load_checkpoint(path)["arguments"]
    with pytest.raises(CheckpointError, match=r"stem 'published' \(asked for: 'small'\)"):
        load_whole(trained.net, path, identity | {"stem": "small"}, data)
    del identity["stem"]
    older = changed(arguments=identity)
    load_whole(trained.net, older, identity | {"stem": "published"}, data)


UNUSABLE = [
    ({"arguments": {"dataset": "Flowers"}}, "'Flowers': expected one of CIFAR10"),
    ({"arguments": {"dataset": "Digits", "width": 3, "T": 2}}, "do not fit the network"),
    ({"arguments": {"dataset": "Digits", "warp": 1}}, r"warp 1, .* \(there is no such flag\)"),
    ({"arguments": {"dataset": "Digits", "T": "four"}}, "T 'four', .*expected a whole number"),
    ({"arguments": {"dataset": "Digits", "method": "x"}}, "method 'x', .*expected one of esd"),
    ({"arguments": [1]}, "no entries 'arguments' and 'model'"),
    ({"data": {"name": "Digits"}}, "its description of the data is incomplete"),
]


@pytest.mark.parametrize("entries, message", UNUSABLE)
def test_a_checkpoint_that_cannot_be_rebuilt_is_refused(changed, entries, message):
    with pytest.raises(CheckpointError, match=message):
        load_trained(changed(**entries), CPU)
