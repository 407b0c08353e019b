"""Random command lines: each ends with exit code 0 or 2, and a refused one leaves nothing."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmark.fault import micro_run
from benchmark.fault.damage import ending
from benchmark.fault.kill import Finding
from experiment.cifar.config.config import get_parser

TIME_LIMIT = 120  # seconds for one command
GOOD_SHARE = 0.25  # of the values drawn: about every tenth list is right and really trains

GOOD = {
    "seed": ("0", "7", "4294967295", " 5 ", "1_000"),
    "dataset": ("FakeData", "Digits"),
    "data_path": (".", "~", "nowhere"),
    "cache_path": (".", "nowhere"),
    "device": ("cpu",),
    "dist_timeout": ("10", "0.5"),
    "accum": ("1", "2"),
    "num_workers": ("0", "1"),
    "checkpoint_every": ("1", "4", "2147483647"),
    "keep_checkpoints": ("1", "3"),
    "arch": ("resnet18", "resnet19", "vgg11", "vggsnn", "sew_resnet18", "ms_resnet18"),
    "stem": ("published",),  # small is refused with most of these
    "method": ("esd", "rate", "bptt", "bptt_checkpointed", "sltt", "ottt"),
    "teacher": ("reliable", "soft", "all", "final", "best", "label_smoothing"),
    "width": ("1", "3", "5"),
    "branch_pool": ("4", "global", "default"),
    "T": ("1", "2", "3", "٣"),
    "decay": ("0", "1", "0.5", "1e-300", "+.25"),
    "thresh": ("0.5", "1", "1e-30", "3"),
    "v_reset": ("none", "0", "-1", "soft"),
    "train_batch_size": ("7", "16", "44", "100000"),
    "val_batch_size": ("1", "3", "20", "100000"),
    "num_epoch": ("1",),
    "optim": ("SGDM", "Adam"),
    "lr": ("0.1", "1e-3", "1e-320"),
    "wd": ("0", "5e-4"),
    "scheduler": ("COSINE",),
    "alp": ("0", "0.7"),
    "beta": ("0", "0.3"),
    "amp": ("none", "bf16-backward", "bf16"),
    "val_fraction": ("none", "0.5"),
}
WRONG_NUMBERS = ("", "nan", "inf", "-inf", "1e999", "0x10", "1,5", "abc", "--", "9" * 400, "-7")
WRONG_COUNTS = (*WRONG_NUMBERS, "-1", "1.5", "1e3", "2147483648", "99999999999999999999")
WRONG = {
    "seed": (*WRONG_COUNTS, "4294967296"),
    "dataset": ("cifar10", "ImageNet", "", "CIFAR10", "MNIST"),  # the last two are not there
    "data_path": ("", " "),
    "cache_path": ("",),
    "device": ("tpu", "cuda:99", "mps", "cpu:x", "", "meta"),
    "dist_timeout": (*WRONG_NUMBERS, "0"),
    "accum": (*WRONG_COUNTS, "0", "5"),  # the last does not divide the batch
    "num_workers": (*WRONG_COUNTS, "1025"),
    "checkpoint_every": (*WRONG_COUNTS, "0"),
    "keep_checkpoints": (*WRONG_COUNTS, "0"),
    "arch": ("resnet50", "", "ResNet18", "preact_resnet18"),  # 32 pixels leave no 4x4 map
    "method": ("ESD", "stdp"),
    "stem": ("", "large", "small"),  # the last is how resnet18 is as published
    "teacher": ("", "mean"),
    "width": (*WRONG_COUNTS, "0", "65537"),
    "branch_pool": (*WRONG_COUNTS, "0", "3000"),
    "T": (*WRONG_COUNTS, "0"),
    "decay": (*WRONG_NUMBERS, "1.5", "-0.1"),
    "thresh": (*WRONG_NUMBERS, "0"),
    "v_reset": (*WRONG_NUMBERS[:-1], "1e9"),
    "train_batch_size": (*WRONG_COUNTS, "0"),
    "val_batch_size": (*WRONG_COUNTS, "0"),
    "num_epoch": (*WRONG_COUNTS, "0"),
    "optim": ("SGD", "adam", ""),
    "lr": (*WRONG_NUMBERS, "0"),
    "wd": WRONG_NUMBERS,
    "scheduler": ("cosine", "STEP"),
    "alp": WRONG_NUMBERS,
    "beta": WRONG_NUMBERS,
    "amp": ("fp16", "True"),
    "val_fraction": (*WRONG_NUMBERS, "0", "1", "0.001"),
}
SWITCHES = ("detach_reset", "auto_aug", "cutout", "gpu_aug", "compile", "sparse", "cuda_graph",
            "sync_bn", "tf32", "changed_data", "check_data")  # fmt: skip
STRAY = ("--unknown", "-x", "word", "--eval", "--T", "--no-T", "--lr=", "", "--", "--help", "-h",
         "--auto_aug=yes", "\N{SNOWMAN}")  # fmt: skip


class Scene:
    """A folder for the runs of the lists, and files that they may name."""

    def __init__(self, work: Path):
        self.log_path = work / "runs"
        self.log_path.mkdir(parents=True)
        self.text = work / "text"
        self.text.write_text("no checkpoint")
        run = work / "a-run"
        ending([*micro_run.ARGUMENTS, "--num_epoch", "1", "--log_path", str(run)])
        (folder,) = micro_run.run_folders(run)
        self.checkpoint = folder / "last.pt"
        self.paths = (str(self.checkpoint), str(self.text), str(work), "nowhere.pt", "", "\0")
        self.log_paths = (str(self.text), str(work / "no" / "parent"), "/proc/runs", "\0")


def argument_list(scene: Scene, choose: random.Random) -> list[str]:
    """Up to nine random flags after those that keep a run small."""
    argv = [*micro_run.ARGUMENTS, "--num_epoch", "1", "--log_path", str(scene.log_path)]
    for _ in range(choose.randint(1, 9)):
        kind = choose.random()
        if kind < 0.8:
            flag = choose.choice(list(GOOD))
            pool = GOOD[flag] if choose.random() < GOOD_SHARE else WRONG[flag]
            argv += [f"--{flag}", choose.choice(pool or GOOD[flag])]
        elif kind < 0.87:
            argv += [choose.choice(("--", "--no-")) + choose.choice(SWITCHES)]
        elif kind < 0.92:
            argv += [choose.choice(("--resume", "--evaluate")), choose.choice(scene.paths)]
        elif kind < 0.94:
            argv += ["--resume", "auto"]
        elif kind < 0.96:
            argv += ["--log_path", choose.choice(scene.log_paths)]
        else:
            argv += [choose.choice(STRAY)]
    return argv


def every_flag_is_tried() -> None:
    """The lists below know each flag of the parser; a new one must be added to them."""
    known = {*GOOD, *SWITCHES, "resume", "evaluate", "log_path", "help"}
    flags = set(get_parser().flags())
    assert flags == known, f"flags without random values: {sorted(flags ^ known)}"


def try_argument_list(scene: Scene, argv: Sequence[str]) -> tuple[int, Finding]:
    """Exit code of the command line, and what was wrong about its end."""
    before = set(scene.log_path.iterdir())
    with time_limit():
        code, text = ending(argv)
    added = set(scene.log_path.iterdir()) - before
    for folder in added:
        shutil.rmtree(folder)
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    problem = None
    if code not in (0, 2) or "Traceback" in text:
        problem = f"exit code {code}"
    elif code == 2 and len(errors) != 1:
        problem = f"{len(errors)} sentences"
    elif code == 2 and added:
        problem = f"left {sorted(path.name for path in added)}"
    return code, problem and f"{problem} from {argv}: {text}"


def argument_trials(work: Path, count: int, choose: random.Random) -> Iterator[tuple[int, Finding]]:
    """`try_argument_list` for `count` lists."""
    every_flag_is_tried()
    scene = Scene(work)
    for _ in range(count):
        yield try_argument_list(scene, argument_list(scene, choose))


@contextmanager
def time_limit() -> Iterator[None]:
    """AssertionError, which no part of the program expects, after TIME_LIMIT seconds."""

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError(f"no end after {TIME_LIMIT} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
