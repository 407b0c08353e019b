"""Which flags have no effect when; each is named in one line, and does nothing."""

from importlib import import_module

import pytest
import torch

from experiment.cifar.config.config import FLAGS, get_parser
from experiment.flag import idle
from experiment.flag.experiment_flags import READ_BY_CHECK
from experiment.flag.row import silenced
from experiment.flag.values import in_effect
from model import TEACHERS
from model.distillation import SelfDistillationLoss

# Experiment, flags, and how each line begins that says so.
SAID = """
cifar | --method rate --alp 1 | --alp: this --method has no branches
cifar | --method bptt --branch_gradient partition | --branch_gradient: this --method has no
cifar | --alp 0 --beta 0 --branch_gradient partition | --branch_gradient: --alp 0 --beta 0 leave
cifar | --T 2 --T_min 2 | --T_min: it is --T, and leaves no other number to draw
cifar | --T 2 --T_min 1
cifar | --method bptt --branch_pool 4 | --branch_pool: this --method has no branches
cifar | --method bptt --beta 1 --teacher soft | --beta, --teacher: this --method has no branches to
cifar | --method bptt --beta 1 --teacher label_smoothing
cifar | --beta 0 --teacher soft | --teacher: --beta 0 leaves out what it teaches
cifar | --evaluate x --lr 1 --sparse --accum 2 | --accum, --lr: --evaluate trains nothing
cifar | --evaluate x --resume auto --changed_data | --resume, --changed_data: --evaluate trains
cifar | --evaluate x --ema 0.9 | --ema: --evaluate trains nothing
cifar | --method rate --ema 0.9 --teacher ema | --teacher: this --method has no branches to teach
cifar | --evaluate x --checkpoint_every 5 | --checkpoint_every: --evaluate trains nothing
cifar | --evaluate x --amp bf16-backward | --amp: networks that were trained so are evaluated in
cifar | --evaluate x --amp fp16 | --amp: networks that were trained so are evaluated in fp32
cifar | --evaluate x --amp bf16
cifar | --evaluate x --tune --sparse | --tune: --evaluate trains nothing
cifar | --tune --sparse --amp bf16-backward --init x --T 2 | --init, --amp, --sparse: --tune
cifar | --method bptt --compile --sparse | --compile, --sparse: this --method has no rate-based
cifar | --method bptt --amp bf16-backward | --amp: this --method has no rate-based layers
cifar | --cuda_graph --no-tf32 | --tf32, --cuda_graph: it needs a GPU
cifar | --method sltt --amp fp16 | --amp: this --method has no rate-based layers
cifar | --amp fp16 --sparse | --sparse: convolutions in 16 bits (--amp fp16, bf16) are dense
cifar | --amp bf16 --sparse | --sparse: convolutions in 16 bits (--amp fp16, bf16) are dense
cifar | --amp bf16 --tf32 | --tf32: convolutions are in bfloat16 | --tf32: it needs a GPU
cifar | --accum 2 --cuda_graph | --cuda_graph: it needs a GPU | --cuda_graph: a graph holds one
cifar | --v_reset 0 --detach_reset | --detach_reset: rate gradients have the whole derivative
cifar | --method ottt --detach_reset | --detach_reset: this --method differentiates no reset
cifar | --sync_bn --dist_timeout 3 | --dist_timeout, --sync_bn: there is one process
cifar | --changed_data | --changed_data: there is no --resume
cifar | --check_data --T 3 --num_workers 2 | --T: --check_data only reads images
cifar | --dataset Digits --data_path x | --data_path: this --dataset needs no files
cifar | --dataset CIFAR10 --data_path x
cifar | --image_size 64 --channels 1 | --image_size, --channels: it is for pictures of your own
cifar | --dataset Folder --data_path x --image_size 64 --channels 1 --test_fraction 0.3
cifar | --evaluate x --warmup 1 --clip_norm 2 | --warmup, --clip_norm: --evaluate trains nothing
cifar | --evaluate x --label_smoothing 0.1 | --label_smoothing: --evaluate trains nothing
cifar | --method rate --label_smoothing 0.1 --warmup 1 --clip_norm 2
cifar | --evaluate x --crop --no-flip | --crop, --flip: --evaluate trains nothing
dvs | --evaluate x --event_aug | --event_aug: --evaluate trains nothing
dvs | --sensor 9x8 --test_fraction 0.3 | --test_fraction: no test set is drawn | --sensor: the
dvs | --flip --no-event_aug | --flip: --no-event_aug leaves samples as they are
dvs | --dataset DigitsDVS --test_fraction 0.3
dvs | --dataset Recordings --data_path x --sensor 9x8 --test_fraction 0.3 --flip
dvs | --dataset Recordings --split given --test_fraction 0.3 | --test_fraction: no test set is drawn
imagenet | --auto_aug --cutout | --auto_aug, --cutout: as in the published ImageNet run
imagenet | --auto_aug --imagenet_aug
imagenet | --imagenet_aug | --imagenet_aug: it applies --auto_aug and --cutout
imagenet | --no-crop --no-flip
imagenet | --no-crop --no-flip --imagenet_aug --cutout
imagenet | --dummy 8 --no-crop --flip | --crop, --flip: --dummy reads no files
imagenet | --evaluate x --no-crop --flip | --crop, --flip: --evaluate trains nothing
imagenet | --dummy 8 --imagenet_aug --auto_aug | --imagenet_aug, --auto_aug: --dummy reads no files
cifar | --evaluate x --eval_every 2 --label_noise 0.1 | --eval_every, --label_noise: --evaluate
imagenet | --dummy 8 --train_per_class 3 | --train_per_class: --dummy reads no files
imagenet | --check_data --label_noise 0.1 | --label_noise: --check_data only reads images
imagenet | --dummy 8 --data_path x --val_fraction 0.1 | --data_path, --val_fraction: --dummy reads
imagenet | --dummy 8 --check_data --reader pil --T 3 | --T, --dummy: --check_data only reads images
"""


@pytest.mark.parametrize("row", SAID.strip().splitlines())
def test_flags_without_effect_are_named(row, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    experiment, text, *said = (part.strip() for part in row.split("|"))
    import_module(f"experiment.{experiment}.config.config").get_parser().parse_args(text.split())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said), lines
    for line, beginning in zip(lines, said, strict=True):
        assert line.startswith(f"warning: no effect of {beginning}")


def test_of_two_parts_none_is_drawn(tmp_path, capsys):
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
    flags = ["--dataset", "Folder", "--data_path", tmp_path, "--test_fraction", 0.3]
    get_parser().parse_args([*flags, "--split_seed", 1])
    said = "--test_fraction, --split_seed: the pictures are in two parts already"
    assert capsys.readouterr().err == f"warning: no effect of {said}\n"


def test_the_smoothed_label_teaches_a_single_head_too():
    """Unlike the other teachers, which give it its own logits, here of an average that is equal."""
    logits = [torch.randn(3, 4, generator=torch.Generator().manual_seed(0))]
    labels = torch.tensor([0, 1, 2])
    for name, teacher in TEACHERS.items():
        loss = SelfDistillationLoss(1.0, 0.3, teacher=teacher)
        soft = loss(logits, labels, averaged=torch.stack(logits)).soft
        assert (soft > 1e-3) == (name == "label_smoothing")


def test_a_log_path_is_not_used_where_a_run_goes_on_in_its_own_folder(tmp_path, capsys):
    flags = ["--log_path", "runs", "--resume", tmp_path / "last.pt"]
    get_parser().parse_args(flags)
    assert capsys.readouterr().err == "", "outside a run folder"
    (tmp_path / "config.json").write_text('["of another program"]')
    get_parser().parse_args(flags)
    assert capsys.readouterr().err == "", "outside a run folder of ours"
    for content in ('{"identity": {}}', "damaged{"):
        (tmp_path / "config.json").write_text(content)
        get_parser().parse_args(flags)
        assert "--log_path: --resume goes on in the folder" in capsys.readouterr().err


def test_a_check_reads_few_flags():
    args = get_parser().parse_args(["--check_data"])
    names = {flag.name for flag in FLAGS} - set(silenced(FLAGS, args)[idle.CHECKING])
    assert names == set(READ_BY_CHECK) - {"reader"}


@pytest.mark.parametrize(
    ("text", "on_gpu", "reason"),
    [
        ("--sparse", True, idle.DENSE_ON_GPU),
        ("--sparse", False, None),
        ("--sparse --amp bf16", False, idle.DENSE_IN_HALF),
        ("--cuda_graph", False, idle.NO_GPU),
        ("--cuda_graph", True, None),
        ("--cuda_graph --accum 2", True, idle.SEVERAL_PASSES),
        ("--cuda_graph --method ottt", True, idle.SEVERAL_PASSES),
        ("--cuda_graph --method bptt_checkpointed", True, idle.RECOMPUTING),
    ],
)
def test_a_switch_is_in_effect_unless_a_condition_says_otherwise(text, on_gpu, reason, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: on_gpu)
    switch = text.split()[0].removeprefix("--")
    args = get_parser().parse_args(text.split())
    assert in_effect(args, switch) == (reason is None)
    assert [c for c, names in silenced(FLAGS, args).items() if switch in names] == (
        [] if reason is None else [reason]
    )
    assert not in_effect(get_parser().parse_args([f"--no-{switch}"]), switch)
    assert in_effect(get_parser().parse_args([]), switch) == (switch == "cuda_graph" and on_gpu)


@pytest.mark.parametrize("processes", ["8", "", "many"])
def test_a_graph_is_for_one_process(processes, monkeypatch, capsys):
    """Whatever the variable holds; what it must hold is said elsewhere."""
    monkeypatch.setenv("WORLD_SIZE", processes)
    get_parser().parse_args(["--cuda_graph"])
    assert "--cuda_graph: a graph holds the step of one process" in capsys.readouterr().err
