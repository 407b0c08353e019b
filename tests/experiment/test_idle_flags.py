"""A flag without effect is named in one line, and does nothing."""

import pytest
import torch

from experiment.cifar.config.config import get_parser
from experiment.idle_flags import IDLE, TRAINING_FLAGS, in_effect
from model import TEACHERS
from model.distillation import SelfDistillationLoss


def flags():
    return [action for action in get_parser().flags().values() if action.dest != "help"]


@pytest.mark.parametrize(
    ("text", "idle"),
    [
        ("--method rate --alp 1.0", "--alp: this --method"),
        ("--method bptt --beta 0.3 --branch_pool 4", "--branch_pool, --beta"),
        ("--evaluate x.pt --lr 0.1 --resume auto", "--evaluate trains nothing"),
        ("--evaluate x.pt --checkpoint_every 5", "--checkpoint_every: --evaluate"),
        ("--evaluate x.pt --sparse --accum 2", "--sparse, --accum: --evaluate"),
        ("--method bptt --sparse --compile", "--sparse, --compile: this --method has no rate"),
        ("--device cpu --cuda_graph", "--cuda_graph: it needs a GPU"),
        ("--device cpu --no-tf32", "--tf32: it needs a GPU"),
        ("--amp bf16 --no-tf32", "--tf32: convolutions are in bfloat16"),
        ("--accum 2 --cuda_graph", "--cuda_graph: a graph holds one pass"),
        ("--v_reset 0 --detach_reset", "--detach_reset: rate gradients have the whole derivative"),
        ("--amp bf16 --sparse", "--sparse: convolutions in bfloat16"),
        ("--sync_bn --dist_timeout 3", "--dist_timeout, --sync_bn: there is one process"),
        ("--evaluate x.pt --amp bf16-backward", "--amp: --evaluate runs no backward pass"),
        ("--changed_data", "--changed_data: there is no --resume"),
        ("--evaluate x.pt --resume auto --changed_data", "--changed_data: --evaluate trains"),
        ("--check_data --lr 0.1 --evaluate x.pt", "--lr: --check_data only reads images"),
        ("--dataset Digits --data_path data", "--data_path: this --dataset needs no files"),
    ],
)
def test_flags_without_effect_are_named(text, idle, capsys):
    get_parser().parse_args(text.split())
    warning = capsys.readouterr().err
    assert warning.startswith("warning: no effect of ")
    for part in idle.replace(": ", ", ").split(", "):
        assert part in warning


def test_the_smoothed_label_teaches_a_single_head_too(capsys):
    """Unlike the other teachers, which give it its own logits."""
    flags = "--method bptt --beta 0.3 --teacher"
    get_parser().parse_args([*flags.split(), "label_smoothing"])
    assert capsys.readouterr().err == ""
    logits = [torch.randn(3, 4, generator=torch.Generator().manual_seed(0))]
    labels = torch.tensor([0, 1, 2])
    for name, teacher in TEACHERS.items():
        soft = SelfDistillationLoss(1.0, 0.3, teacher=teacher)(logits, labels).soft
        assert (soft > 1e-3) == (name == "label_smoothing")


def test_a_log_path_is_not_used_where_a_run_goes_on_in_its_own_folder(tmp_path, capsys):
    flags = ["--log_path", "runs", "--resume", tmp_path / "last.pt"]
    get_parser().parse_args(flags)
    assert capsys.readouterr().err == "", "outside a run folder"
    (tmp_path / "config.json").write_text('{"identity": {}}')
    get_parser().parse_args(flags)
    assert "--log_path: --resume goes on in the folder" in capsys.readouterr().err


def test_the_idle_rules_name_flags_that_exist():
    names = {action.dest for action in flags()} | {"event_aug"}  # of experiment/dvs
    assert set(TRAINING_FLAGS) <= names
    assert all(set(rule.flags) <= names for rule in IDLE)


def test_a_switch_is_in_effect_unless_a_rule_says_otherwise():
    def switched_on(text, switch):
        return in_effect(get_parser().parse_args([*text.split(), "--device", "cpu"]), switch)

    assert switched_on("--sparse", "sparse")
    assert not switched_on("", "sparse")
    assert not switched_on("--sparse --amp bf16", "sparse")
    assert not switched_on("--cuda_graph", "cuda_graph")


@pytest.mark.parametrize("processes", ["8", "", "many"])
def test_a_graph_is_for_one_process(processes, monkeypatch, capsys):
    """Whatever the variable holds; what it must hold is said elsewhere."""
    monkeypatch.setenv("WORLD_SIZE", processes)
    get_parser().parse_args(["--cuda_graph"])
    assert "--cuda_graph: a graph holds the pass of one process" in capsys.readouterr().err
