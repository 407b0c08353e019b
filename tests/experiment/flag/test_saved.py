"""The flags that a command takes from the checkpoint that it names."""

import json
from importlib import import_module

import pytest
import torch

from experiment.cifar.config.config import get_parser
from experiment.flag.values import request_of
from tests.support.damage import cut
from util.checkpoint import save_checkpoint

RUN = "--dataset Digits --width 2 --T 3 --method rate --seed 4 --lr 0.5 --amp bf16 --num_epoch 9"


@pytest.fixture
def checkpoint(tmp_path):
    """What a run of RUN leaves: a checkpoint and its config.json."""
    more = ["--init", str(tmp_path / "gone.pt"), "--num_workers", "3", "--data_path", str(tmp_path)]
    request = request_of(get_parser().parse_args([*RUN.split(), *more]))
    save_checkpoint({"arguments": request.identity, "model": {}}, tmp_path / "best.pt")
    config = {"arguments": request.arguments, "identity": request.identity}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path / "best.pt"


def parsed(*words):
    return get_parser().parse_args([str(word) for word in words])


@pytest.mark.parametrize("flag", ["--evaluate", "--resume"])
def test_what_is_not_given_is_as_in_the_run(flag, checkpoint):
    init = checkpoint.with_name("gone.pt")
    init.symlink_to("nowhere")  # which a command line may not name
    args = parsed(flag, checkpoint)
    saved = json.loads((checkpoint.parent / "config.json").read_text())
    assert request_of(args).identity == saved["identity"]
    assert (args.num_workers, args.data_path) == (3, checkpoint.parent)
    assert args.init == init
    given = parsed(flag, checkpoint, "--T", 5, "--data_path", "x", "--num_workers", 0)
    assert (given.T, str(given.data_path), given.num_workers) == (5, "x", 0)


def test_without_config_json_the_rest_is_as_by_default(checkpoint):
    (checkpoint.parent / "config.json").unlink()
    args = parsed("--evaluate", checkpoint)
    assert (args.T, args.num_workers, str(args.data_path)) == (3, 8, "data")


def test_a_flag_is_warned_about_only_where_it_differs_from_the_run(checkpoint, capsys):
    parsed("--evaluate", checkpoint, *RUN.split())
    assert capsys.readouterr().err == ""
    parsed("--evaluate", checkpoint, "--lr", 0.5, "--seed", 5)
    assert capsys.readouterr().err == "warning: no effect of --seed: --evaluate trains nothing\n"


def test_the_number_of_epochs_is_that_to_which_the_run_was_extended(checkpoint):
    config = json.loads((checkpoint.parent / "config.json").read_text())
    config["arguments"]["num_epoch"] = 20
    (checkpoint.parent / "config.json").write_text(json.dumps(config))
    assert parsed("--resume", checkpoint).num_epoch == 20


def test_a_loose_file_to_resume_gives_initial_weights(checkpoint):
    (checkpoint.parent / "config.json").unlink()
    args, same = parsed("--resume", checkpoint), parsed("--init", checkpoint)
    assert vars(args) == vars(same)
    assert (args.T, args.init, args.resume) == (6, checkpoint, None)


@pytest.mark.parametrize("flag", ["--evaluate", "--resume"])
def test_what_says_nothing_leaves_the_flags_as_given(flag, checkpoint):
    missing = checkpoint.with_name("missing.pt")
    assert parsed(flag, missing).T == 6
    torch.save({"best_net": {"conv1.weight": torch.zeros(2)}}, checkpoint)  # as published
    assert parsed(flag, checkpoint).T == 6


def test_a_check_of_the_data_reads_no_checkpoint(checkpoint):
    assert parsed("--evaluate", checkpoint, "--check_data").dataset == "CIFAR10"


def damaged(path):
    path.write_bytes(cut(path.read_bytes(), 8))


def of_another_version(path):
    save_checkpoint({"arguments": {"dataset": "Digits", "warp": 1}, "model": {}}, path)


def of_unknown_data(path):
    save_checkpoint({"arguments": {"dataset": "Flowers"}, "model": {}}, path)


def as_a_folder(path):
    path.unlink()
    path.mkdir()


REFUSED = [
    ("dvs", None, "was trained on Digits: give it to experiment/cifar/main.py"),
    ("imagenet", None, "was trained on Digits: give it to experiment/cifar/main.py"),
    ("cifar", damaged, "is truncated or damaged at its end"),
    ("cifar", of_another_version, "saved with warp 1, which this version does not take"),
    ("cifar", as_a_folder, "is a folder or a special file; name a file, such as last.pt"),
    ("cifar", of_unknown_data, "data set 'Flowers': expected one of CIFAR10"),
]


@pytest.mark.parametrize(("experiment", "change", "words"), REFUSED)
def test_a_file_of_no_use_is_refused_in_one_sentence(experiment, change, words, checkpoint, capsys):
    if change is not None:
        change(checkpoint)
    parser = import_module(f"experiment.{experiment}.config.config").get_parser()
    for flag in ("--evaluate", "--resume"):
        with pytest.raises(SystemExit) as end:
            parser.parse_args([flag, str(checkpoint)])
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2
        assert line.startswith("error: ") and str(checkpoint) in line and words in line


@pytest.mark.parametrize("flag", ["--evaluate", "--resume"])
def test_another_data_set_is_refused_before_it_is_looked_for(flag, checkpoint, capsys):
    assert parsed(flag, checkpoint, "--dataset", "Digits").T == 3
    with pytest.raises(SystemExit):
        parsed(flag, checkpoint, "--dataset", "MNIST")
    assert "trained with dataset 'Digits' (asked for: 'MNIST'): leave" in capsys.readouterr().err


def test_initial_weights_are_given_once(checkpoint, capsys):
    (checkpoint.parent / "config.json").unlink()
    with pytest.raises(SystemExit):
        parsed("--resume", checkpoint, "--init", checkpoint)
    assert "give one of them" in capsys.readouterr().err
