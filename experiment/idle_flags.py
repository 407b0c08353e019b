"""Which of the shared flags have no effect, and when: each is warned about by name, and ignored."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from experiment.flag_parser import Idle
from experiment.resume import run_identity
from model import METHODS


def on_gpu(args: argparse.Namespace) -> bool:
    """Whether training is going to run on a GPU."""
    return args.device != "cpu" and torch.cuda.is_available()


# The flags that only training reads.
TRAINING_FLAGS = ("seed", "log_path", "resume", "changed_data", "checkpoint_every",
                  "keep_checkpoints", "detach_reset", "train_batch_size", "num_epoch", "optim",
                  "lr", "wd", "scheduler", "alp", "beta", "teacher", "val_fraction", "auto_aug",
                  "cutout", "event_aug", "gpu_aug", "accum", "sync_bn", "compile", "sparse",
                  "cuda_graph")  # fmt: skip

IDLE = (
    Idle(
        lambda args: not METHODS[args.method].branches,
        ("alp", "branch_pool"),
        "this --method has no branches",
    ),
    Idle(
        # A head that follows itself learns nothing; the smoothed label teaches a single one too.
        lambda args: not METHODS[args.method].branches and args.teacher != "label_smoothing",
        ("beta", "teacher"),
        "this --method has no branches to teach or learn from",
    ),
    Idle(lambda args: args.beta == 0, ("teacher",), "--beta 0 leaves out what it teaches"),
    Idle(
        lambda args: not METHODS[args.method].by_rates,
        ("compile", "sparse"),
        "this --method has no rate-based layers",
    ),
    Idle(
        lambda args: args.amp == "bf16-backward" and not METHODS[args.method].by_rates,
        ("amp",),
        "this --method has no rate-based layers",
    ),
    Idle(
        lambda args: args.amp == "bf16",
        ("sparse",),
        "convolutions in bfloat16 (--amp bf16) are dense",
    ),
    Idle(lambda args: args.amp == "bf16", ("tf32",), "convolutions are in bfloat16 (--amp bf16)"),
    Idle(on_gpu, ("sparse",), "convolutions on a GPU are dense"),
    Idle(lambda args: not on_gpu(args), ("cuda_graph", "tf32"), "it needs a GPU"),
    Idle(
        lambda args: args.accum > 1 or METHODS[args.method].online,
        ("cuda_graph",),
        "a graph holds one pass, and --accum and some methods take a step in several",
    ),
    Idle(
        lambda args: METHODS[args.method].recomputes,
        ("cuda_graph",),
        "a graph cannot hold a pass that runs layers again",
    ),
    Idle(
        lambda args: os.environ.get("WORLD_SIZE", "1") != "1",
        ("cuda_graph",),
        "a graph holds the pass of one process",
    ),
    Idle(
        lambda args: METHODS[args.method].online,
        ("detach_reset",),
        "this --method differentiates no reset",
    ),
    Idle(
        lambda args: METHODS[args.method].by_rates and args.v_reset is not None,
        ("detach_reset",),
        "rate gradients have the whole derivative of a hard reset (--v_reset)",
    ),
    Idle(
        lambda args: os.environ.get("WORLD_SIZE", "1") == "1",
        ("sync_bn", "dist_timeout"),
        "there is one process",
    ),
    Idle(lambda args: args.resume is None, ("changed_data",), "there is no --resume"),
    Idle(
        lambda args: isinstance(args.resume, Path) and run_identity(args.resume.parent) is not None,
        ("log_path",),
        "--resume goes on in the folder of its file",
    ),
    Idle(
        lambda args: args.evaluate is not None and args.amp == "bf16-backward",
        ("amp",),
        "--evaluate runs no backward pass",
    ),
    Idle(
        lambda args: args.evaluate is not None,
        TRAINING_FLAGS,
        "--evaluate trains nothing",
    ),
)


def is_idle(args: argparse.Namespace, flag: str) -> bool:
    """Whether a rule says that a flag has no effect."""
    return any(rule.applies(args) for rule in IDLE if flag in rule.flags)


def in_effect(args: argparse.Namespace, switch: str) -> bool:
    """Whether a switch is on and no rule says that it has no effect."""
    return getattr(args, switch) and not is_idle(args, switch)
