"""The flags: all there, all explained, the published commands valid, wrong values refused."""

import json
from pathlib import Path

import pytest

from experiment.cifar.config.config import PAPER, get_parser
from experiment.flag.document import FILE, flags_document
from experiment.flag.lookup import EXPERIMENTS, flags_of_experiment
from experiment.flag.parser import FlagParser
from experiment.flag.row import OWN, Role
from experiment.flag.table import SHARED
from experiment.flag.values import network_arguments, recipe_of, request_of
from model import build_model

# The paper's commands and recipes, with what is not the default.
PUBLISHED = {
    "cifar": (
        "--seed 60 --arch resnet18 --dataset CIFAR100 --data_path data --auto_aug --cutout "
        "--wd 5e-4 --num_workers 8 --decay 0.2 --T 6 --detach_reset --alp 1.0 --beta 0.3 "
        "--train_batch_size 128 --lr 0.1 --num_epoch 300",
        {"dataset": "CIFAR100", "auto_aug": True, "cutout": True},
    ),
    "imagenet": (
        "--seed 60 --arch preact_resnet34 --dataset imagenet --data_path data --auto_aug --cutout "
        "--wd 2e-5 --num_workers 16 --decay 0.2 --T 4 --detach_reset --alp 0.7 --beta 0.3 "
        "--train_batch_size 512 --lr 0.2 --num_epoch 100 --image_size 224",
        {"auto_aug": True, "cutout": True},
    ),
    "dvs": (
        "--arch resnet18 --dataset CIFAR10_DVS --T 10 --train_batch_size 32 --lr 0.1 --wd 5e-4 "
        "--num_epoch 300 --alp 1.0 --beta 0.1 --event_aug --method esd",
        {},
    ),
}
PROMISED = (
    "seed arch dataset data_path log_path auto_aug cutout resume train_batch_size val_batch_size "
    "device lr wd num_epoch num_workers optim decay v_reset thresh T scheduler detach_reset alp "
    "beta width method branch_pool amp evaluate"
)
WRONG = (
    "--T 0,--T 2.5,--T -1,--arch resnet50,--lr -0.1,--lr 0,--lr nan,--decay 1.5,--decay -0.1,"
    "--thresh 0,--v_reset inf,--method stdp,--width 0,--branch_pool 0,--branch_pool half,"
    "--train_batch_size 0,--val_batch_size x,--num_epoch 0,--num_workers -1,--optim SGD,"
    "--scheduler STEP,--alp -1,--beta inf,--wd -1,--seed -1,--seed 4294967296,--dataset cifar,"
    "--amp fp8,--val_fraction 0,--checkpoint_every 0,--keep_checkpoints 0,--accum 0,--warmup -1,"
    "--warmup inf,--clip_norm 0,--clip_norm -1,--label_smoothing 1,--label_smoothing -0.1,"
    "--train_per_class 0,--label_noise 1,--label_noise -0.1,--eval_every 0,"
    "--dist_timeout 0,--T_min 0,--no-T,--auto_aug=yes,extra,--resume=,--log_path="
)


def parse(text):
    return get_parser().parse_args(text.split())


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_the_published_commands_are_the_defaults(experiment, capsys):
    command, others = PUBLISHED[experiment]
    parser = FlagParser("description", flags_of_experiment(experiment))
    args = vars(parser.parse_args(command.split()))
    # The published ImageNet run accepted and ignored its augmentations.
    assert bool(capsys.readouterr().err) == (experiment == "imagenet")
    assert args == vars(parser.parse_args([])) | others
    assert experiment != "cifar" or set(PROMISED.split()) <= args.keys()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_flag_says_what_it_is_and_what_its_default_is(experiment):
    flags = flags_of_experiment(experiment)
    parser = FlagParser("description", flags)
    for flag in flags:
        action = parser.flags()[flag.name]
        shown = parser._get_formatter()._expand_help(action)
        text = shown if "default" in shown else f"{shown} (default: {action.default})"
        assert len(flag.text) >= 4
        assert "default" in text and "default: None" not in text and flag.default is not OWN
    assert "default: None" not in parser.format_help()


def test_the_help_shows_every_flag_and_the_recipe():
    text = " ".join(get_parser().format_help().split())
    assert all(f"--{name}" in text for name in vars(parse("")))
    for name, value in PAPER.items():
        assert f"(default: {value})" in text, name


def test_what_one_experiment_has_alone_are_data_and_circumstances():
    """All others are known to the layers below, whatever the experiment."""
    shared = {flag.name for rows in SHARED.values() for flag in rows}
    for experiment in EXPERIMENTS:
        own = [flag for flag in flags_of_experiment(experiment) if flag.name not in shared]
        assert own and {flag.role for flag in own} <= {Role.DATA, Role.CIRCUMSTANCE}


def test_the_arguments_survive_json():
    argv = ["--v_reset", -1, "--data_path", Path("a/b"), "--resume", "auto"]
    request = request_of(get_parser().parse_args(argv))
    assert json.loads(json.dumps(request.arguments)) == request.arguments
    assert request.arguments["data_path"] == str(Path.cwd() / "a/b"), "from any folder"
    assert request.arguments["resume"] == request.resume == "auto"
    assert request.run_name == "CIFAR10_resnet18_T6_esd_seed60"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--teacher soft", "T6_esd-soft"),
        ("--teacher soft --beta 0", "T6_esd"),
        ("--teacher soft --method rate", "T6_rate"),
        ("--teacher label_smoothing --method rate", "T6_rate-label_smoothing"),
        ("--branch_gradient partition", "T6_esd-partition"),
        ("--branch_gradient partition --method rate", "T6_rate"),
        ("--T_min 2", "T2-6_esd"),
        ("--T_min 6", "T6_esd"),
        ("--ema 0.99 --teacher ema --T_min 1 --T 4", "T1-4_esd-ema-ema0.99"),
    ],
)
def test_a_runs_name_says_what_is_in_effect_and_not_the_papers(flags, named):
    assert request_of(parse(flags)).run_name == f"CIFAR10_resnet18_{named}_seed60"


@pytest.mark.parametrize("text", WRONG.split(","))
def test_wrong_values_are_refused_in_one_sentence(text, capsys):
    with pytest.raises(SystemExit) as end:
        parse(text)
    printed = capsys.readouterr()
    assert end.value.code == 2
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert text.split()[0].partition("=")[0] in printed.err


def test_what_the_layers_below_take():
    args = parse(
        "--T 3 --width 2 --v_reset -0.5 --branch_pool global --no-detach_reset --method rate "
        "--sparse --compile --device cpu --lr 0.25 --cuda_graph"
    )
    net = build_model(**network_arguments(args), num_classes=4)
    assert (net.execution.backend, net.execution.sparse) == ("compiled", True)
    assert (net.T, net.neuron.v_reset, net.neuron.detach_reset) == (3, -0.5, False)
    recipe = recipe_of(args)
    assert (recipe.lr, recipe.wd, recipe.num_epoch) == (0.25, 5e-4, 300)
    assert not recipe.cuda_graph, "it needs a GPU"
    assert recipe.batch_sizes == {"train_batch_size": 128, "val_batch_size": 128}


def test_the_page_on_flags_is_what_the_program_writes():
    assert FILE.read_text(encoding="utf-8") == flags_document(), (
        "python -m experiment.flag.document"
    )
