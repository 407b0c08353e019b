"""The flags: all there, all explained, the published commands valid, wrong values refused."""

import json
import shlex
from pathlib import Path

import pytest

from experiment.cifar.config.config import PAPER, get_parser
from experiment.options import (
    CIRCUMSTANCES,
    make_request,
    network_arguments,
    training_recipe,
)
from model import build_model

PUBLISHED = (
    "--seed 60 --arch resnet18 --dataset {dataset} --data_path data --auto_aug --cutout --wd 5e-4 "
    "--num_workers 8 --decay 0.2 --T 6 --detach_reset --alp 1.0 --beta 0.3"
)
NAMES = (
    "seed arch dataset data_path log_path auto_aug cutout resume train_batch_size val_batch_size "
    "device lr wd num_epoch num_workers optim decay v_reset thresh T scheduler detach_reset alp "
    "beta width method branch_pool amp evaluate"
)


def flags():
    return [action for action in get_parser().flags().values() if action.dest != "help"]


def test_runs_of_earlier_versions_are_those_of_the_same_flags():
    """What decides numbers; another flag here would keep every earlier run from being resumed."""
    identity = make_request(get_parser().parse_args([])).identity
    assert " ".join(sorted(identity)) == (
        "T accum alp amp arch auto_aug beta branch_pool compile cutout dataset decay detach_reset "
        "gpu_aug lr method num_epoch optim scheduler seed sparse stem sync_bn teacher tf32 thresh "
        "train_batch_size v_reset val_fraction wd width"
    )


@pytest.mark.parametrize("dataset", ["CIFAR10", "CIFAR100"])
def test_the_published_commands_are_the_defaults(dataset, capsys):
    args = get_parser().parse_args(shlex.split(PUBLISHED.format(dataset=dataset)))
    assert capsys.readouterr().err == ""
    published = {"dataset": dataset, "auto_aug": True, "cutout": True}
    assert vars(args) == {**vars(get_parser().parse_args([])), **published}


def test_every_promised_flag_is_there():
    assert set(NAMES.split()) <= {action.dest for action in flags()}


@pytest.mark.parametrize("action", flags(), ids=lambda action: action.dest)
def test_every_flag_says_what_it_is_and_what_its_default_is(action):
    parser = get_parser()
    shown = parser._get_formatter()._expand_help(action)
    text = shown if "default" in shown else f"{shown} (default: {action.default})"
    assert len(action.help) >= 4
    assert "default" in text
    assert "default: None" not in parser.format_help()


def test_the_help_shows_every_flag_and_the_recipe():
    text = " ".join(get_parser().format_help().split())
    for action in flags():
        assert action.option_strings[0] in text
    for name, value in PAPER.items():
        assert f"(default: {value})" in text, name


def test_a_flag_either_identifies_a_run_or_is_a_circumstance():
    parser = get_parser()
    identity = make_request(parser.parse_args([])).identity
    names = {action.dest for action in flags()}
    assert set(CIRCUMSTANCES) < names
    assert set(identity) == names - set(CIRCUMSTANCES)
    assert {"seed", "arch", "T", "dataset", "lr", "train_batch_size", "num_epoch"} <= set(identity)


@pytest.mark.parametrize("circumstance", ["--num_workers=3", "--log_path=x", "--device=cuda"])
def test_circumstances_do_not_change_what_a_run_is(circumstance):
    identity = make_request(get_parser().parse_args([])).identity
    assert make_request(get_parser().parse_args([circumstance])).identity == identity
    assert make_request(get_parser().parse_args(["--lr=0.2"])).identity != identity


def test_the_arguments_survive_json():
    argv = ["--v_reset", -1, "--data_path", Path("a/b"), "--resume", "auto"]
    request = make_request(get_parser().parse_args(argv))
    assert json.loads(json.dumps(request.arguments)) == request.arguments
    assert request.arguments["data_path"] == str(Path.cwd() / "a/b"), "from any folder"
    assert request.arguments["resume"] == request.resume == "auto"
    assert request.run_name == "CIFAR10_resnet18_T6_esd_seed60"


@pytest.mark.parametrize(("flags", "named"), [
    ("--teacher soft", "esd-soft"), ("--teacher soft --beta 0", "esd"),
    ("--teacher soft --method rate", "rate"),
    ("--teacher label_smoothing --method rate", "rate-label_smoothing"),
])  # fmt: skip
def test_a_teacher_without_effect_is_not_in_the_name_of_the_run(flags, named):
    request = make_request(get_parser().parse_args(flags.split()))
    assert request.run_name == f"CIFAR10_resnet18_T6_{named}_seed60"


WRONG = [
    "--T 0", "--T 2.5", "--T -1", "--arch resnet50", "--lr -0.1", "--lr 0", "--lr nan",
    "--decay 1.5", "--decay -0.1", "--thresh 0", "--v_reset inf", "--method stdp", "--width 0",
    "--branch_pool 0", "--branch_pool half", "--train_batch_size 0", "--val_batch_size x",
    "--num_epoch 0", "--num_workers -1", "--optim SGD", "--scheduler STEP", "--alp -1",
    "--beta inf", "--wd -1", "--seed -1", "--seed 4294967296", "--dataset cifar", "--amp fp16",
    "--val_fraction 0", "--checkpoint_every 0", "--keep_checkpoints 0", "--accum 0",
    "--dist_timeout 0", "--no-T", "--auto_aug=yes", "extra", "--resume=", "--log_path=",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_wrong_values_are_refused_in_one_sentence(text, capsys):
    with pytest.raises(SystemExit) as end:
        get_parser().parse_args(text.split())
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert text.split()[0].partition("=")[0] in printed.err


def test_what_the_layers_below_take():
    text = "--T 3 --width 2 --v_reset -0.5 --branch_pool global --no-detach_reset --method rate"
    args = get_parser().parse_args([*text.split(), "--sparse", "--compile", "--device", "cpu"])
    net = build_model(**network_arguments(args), num_classes=4)
    assert (net.execution.backend, net.execution.sparse) == ("compiled", True)
    assert (net.T, net.neuron.v_reset, net.neuron.detach_reset) == (3, -0.5, False)
    recipe = training_recipe(args)
    assert not recipe.cuda_graph
    assert recipe.batch_sizes == {"train_batch_size": 128, "val_batch_size": 128}
    assert (recipe.lr, recipe.wd, recipe.alp, recipe.beta, recipe.num_epoch) == (
        0.1, 5e-4, 1.0, 0.3, 300,
    )  # fmt: skip
