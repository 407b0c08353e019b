"""A checkpoint alone rebuilds its network and its data."""

import json

import pytest
import torch

from experiment.data_description import describe_data
from experiment.resume import compatible_weights
from experiment.trained.checkpoint import load_trained
from tests.support.trained_run import make_checkpoint
from util.checkpoint import CheckpointError, load_checkpoint, save_checkpoint

CPU = torch.device("cpu")


@pytest.mark.parametrize("flags", [
    ("--arch", "resnet19", "--v_reset", "0"), ("--method", "rate", "--decay", "0.5"),
])  # fmt: skip
def test_the_network_is_the_one_that_was_saved(tmp_path, flags):
    path = make_checkpoint(tmp_path, *flags)
    trained = load_trained(path, CPU)
    for name, value in load_checkpoint(path)["model"].items():
        assert torch.equal(trained.net.state_dict()[name], value), name
    assert trained.net.T == 3 and not trained.net.training
    assert (trained.data.name, trained.epochs) == ("Digits", 3)
    assert trained.net.neuron.v_reset == (0.0 if "--v_reset" in flags else None)
    assert bool(trained.net.branches) is ("rate" not in flags)


def test_a_gpu_rounds_as_in_the_training(tmp_path, monkeypatch):
    path = make_checkpoint(tmp_path, "--no-tf32")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    load_trained(path, CPU)
    assert not torch.backends.cudnn.allow_tf32
    arguments = load_checkpoint(path)["arguments"]
    del arguments["tf32"]  # as saved by a program that had no such flag
    save_checkpoint(load_checkpoint(path) | {"arguments": arguments}, path)
    load_trained(path, CPU)
    assert torch.backends.cudnn.allow_tf32


def test_records_are_those_that_the_checkpoint_has_seen(tmp_path):
    path = make_checkpoint(tmp_path)
    assert load_trained(path, CPU).records == []
    lines = "".join(json.dumps({"epoch": i}) + "\n" for i in range(5))
    (tmp_path / "metrics.jsonl").write_text(lines)
    assert [r["epoch"] for r in load_trained(path, CPU).records] == [0, 1, 2]


def test_data_path_is_that_of_config_json_unless_another_is_given(tmp_path):
    path = make_checkpoint(tmp_path)
    config = {"arguments": {"data_path": "there", "dataset": "Digits"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert str(load_trained(path, CPU).arguments["data_path"]) == "there"
    other = load_trained(path, CPU, data_path=tmp_path / "here")
    assert other.arguments["data_path"] == tmp_path / "here"


@pytest.mark.parametrize("content", [
    '{"arguments": [1]}', '{"arguments": {"T": 3}}', '{"arguments": {"data_path": 7}}', "[]", "{",
])  # fmt: skip
def test_a_config_json_that_is_none_of_ours_is_left_alone(tmp_path, content):
    path = make_checkpoint(tmp_path)
    default = load_trained(path, CPU).arguments["data_path"]
    (tmp_path / "config.json").write_text(content)
    assert load_trained(path, CPU).arguments["data_path"] == default


def test_weights_are_refused_by_a_network_of_another_stem(tmp_path):
    path = make_checkpoint(tmp_path)
    identity, data = load_checkpoint(path)["arguments"], describe_data(load_trained(path, CPU).data)
    with pytest.raises(CheckpointError, match=r"stem 'published' \(asked for: 'small'\)"):
        compatible_weights(path, identity | {"stem": "small"}, data)
    del identity["stem"]
    older = changed(tmp_path, arguments=identity)
    assert compatible_weights(older, identity | {"stem": "published"}, data)


def changed(tmp_path, **entries):
    path = make_checkpoint(tmp_path)
    save_checkpoint({**load_checkpoint(path), **entries}, path)
    return path


@pytest.mark.parametrize("entries, message", [
    ({"arguments": {"dataset": "Flowers"}}, "'Flowers': expected one of CIFAR10"),
    ({"arguments": {"dataset": "Digits", "width": 3, "T": 2}}, "do not fit the network"),
    ({"arguments": {"dataset": "Digits", "warp": 1}}, r"warp 1, .* \(there is no such flag\)"),
    ({"arguments": {"dataset": "Digits", "T": "four"}}, "T 'four', .*expected a whole number"),
    ({"arguments": {"dataset": "Digits", "method": "x"}}, "method 'x', .*expected one of esd"),
    ({"arguments": [1]}, "no entries 'arguments' and 'model'"),
])  # fmt: skip
def test_a_checkpoint_that_cannot_be_rebuilt_is_refused(tmp_path, entries, message):
    with pytest.raises(CheckpointError, match=message):
        load_trained(changed(tmp_path, **entries), CPU)


def test_a_file_without_arguments_is_refused(tmp_path):
    save_checkpoint({"model": {}}, tmp_path / "bare.pt")
    with pytest.raises(CheckpointError, match="no entries 'arguments' and 'model'"):
        load_trained(tmp_path / "bare.pt", CPU)
