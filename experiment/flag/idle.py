"""The conditions under which flags have no effect, each once; the rows of flags name them.

A flag that is given all the same is warned about, and ignored.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from experiment.flag.amp import PRECISIONS
from experiment.flag.row import Condition
from experiment.train.folder import is_run_folder
from model import METHODS


def on_gpu(args: argparse.Namespace) -> bool:
    """Whether training is going to run on a GPU."""
    return args.device != "cpu" and torch.cuda.is_available()


EVALUATING = Condition(lambda args: args.evaluate is not None, "--evaluate trains nothing")
TUNING = Condition(
    lambda args: args.tune and args.evaluate is None,
    "--tune measures every way, and trains nothing",
)
CHECKING = Condition(lambda args: args.check_data, "--check_data only reads images")
EVALUATING_IN_FP32 = Condition(
    lambda args: args.evaluate is not None and PRECISIONS[args.amp].is_of_rates,
    "networks that were trained so are evaluated in fp32",
)

NO_BRANCHES = Condition(
    lambda args: not METHODS[args.method].branches, "this --method has no branches"
)
NO_PUPILS = Condition(
    # A head that follows itself learns nothing; the smoothed label teaches a single one too.
    lambda args: not METHODS[args.method].branches and args.teacher != "label_smoothing",
    "this --method has no branches to teach or learn from",
)
NO_CONFLICT = Condition(
    lambda args: args.alp == args.beta == 0, "--alp 0 --beta 0 leave the branches no gradient"
)
NOTHING_TO_DRAW = Condition(
    lambda args: args.T_min == args.T, "it is --T, and leaves no other number to draw"
)
NO_LESSON = Condition(lambda args: args.beta == 0, "--beta 0 leaves out what it teaches")
NO_RATES = Condition(
    lambda args: not METHODS[args.method].by_rates, "this --method has no rate-based layers"
)
NO_RATES_TO_ROUND = Condition(
    lambda args: PRECISIONS[args.amp].is_of_rates and not METHODS[args.method].by_rates,
    NO_RATES.reason,
)
NO_RESET_TO_DETACH = Condition(
    lambda args: METHODS[args.method].online, "this --method differentiates no reset"
)
WHOLE_RESET = Condition(
    lambda args: METHODS[args.method].by_rates and args.v_reset is not None,
    "rate gradients have the whole derivative of a hard reset (--v_reset)",
)

DENSE_IN_HALF = Condition(
    lambda args: args.amp in ("fp16", "bf16"),
    "convolutions in 16 bits (--amp fp16, bf16) are dense",
)
IN_BF16 = Condition(lambda args: args.amp == "bf16", "convolutions are in bfloat16 (--amp bf16)")
DENSE_ON_GPU = Condition(on_gpu, "convolutions on a GPU are dense", here=True)
NO_GPU = Condition(lambda args: not on_gpu(args), "it needs a GPU", here=True)

SEVERAL_PASSES = Condition(
    lambda args: args.accum > 1 or METHODS[args.method].online,
    "a graph holds one pass, and --accum and some methods take a step in several",
)
RECOMPUTING = Condition(
    lambda args: METHODS[args.method].recomputes,
    "a graph cannot hold a pass that runs layers again",
)
SEVERAL_PROCESSES = Condition(
    lambda args: os.environ.get("WORLD_SIZE", "1") != "1",
    "a graph holds the step of one process, without exchanges between several",
    here=True,
)
ONE_PROCESS = Condition(
    lambda args: os.environ.get("WORLD_SIZE", "1") == "1", "there is one process", here=True
)

NO_RESUME = Condition(lambda args: args.resume is None, "there is no --resume")
IN_ITS_OWN_FOLDER = Condition(
    lambda args: isinstance(args.resume, Path) and is_run_folder(args.resume.parent),
    "--resume goes on in the folder of its file",
)
