"""Command-line flags that all experiments share, and what they mean to the layers below.

Each experiment's config.py gives the defaults (its paper recipe) and adds its own flags; only
`main` sees parsed arguments, and turns them with `network_arguments` and `training_recipe` into
what the layers below take.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from experiment.flag_parser import (
    FlagParser,
    Idle,
    add_switch,
    expanded_path,
    number,
    optional,
    path_or,
)
from experiment.idle_flags import IDLE, in_effect, is_idle
from experiment.recipe import OPTIMIZERS, PRECISIONS, SCHEDULERS, Recipe
from experiment.resume import INFERENCE_ARGUMENTS
from experiment.run import Request
from model import METHODS, MODELS, STEMS, TEACHERS, Execution

# Flags that do not change what is computed: a run may be resumed with other values of them. A graph
# replays the same kernels; --compile and --sparse bring others, which round otherwise.
CIRCUMSTANCES = ("data_path", "cache_path", "check_data", "log_path", "resume", "changed_data",
                 "evaluate", "num_workers", "val_batch_size", "device", "dist_timeout",
                 "checkpoint_every", "keep_checkpoints", "cuda_graph")  # fmt: skip


def branch_pool(text: str) -> int | str | None:
    """ "default", "global" (None) or a window in pixels."""
    return text if text == "default" else optional(number(int, 1), "global")(text)


def make_parser(
    description: str,
    datasets: Sequence[str],
    defaults: dict[str, Any],
    *,
    embedded: Sequence[str] = (),
) -> FlagParser:
    """The shared flags, with `defaults` for every one whose default is the experiment's own.

    `embedded` names the data sets that need no files.
    """
    parser = FlagParser(description)
    add_run_flags(parser.add_argument_group("run"), datasets)
    add_network_flags(parser.add_argument_group("network"))
    add_neuron_flags(parser.add_argument_group("neuron"))
    add_training_flags(parser.add_argument_group("training"))
    parser.set_defaults(**defaults)
    reason = "this --dataset needs no files"
    fileless = Idle(lambda args: args.dataset in embedded, ("data_path", "cache_path"), reason)
    parser.idle = [*IDLE, fileless]
    return parser


def add_run_flags(group: Any, datasets: Sequence[str]) -> None:
    add = group.add_argument
    add("--seed", type=number(int, 0, 2**32 - 1), help="seed of weights, order and augmentation")
    add("--dataset", choices=datasets, help="data set")
    add("--data_path", metavar="FOLDER", type=expanded_path, help="where the data set lies")
    add(
        "--log_path",
        metavar="FOLDER",
        type=expanded_path,
        help="where each run makes its own folder; made if it is not there",
    )
    add("--resume", metavar="FILE|auto", type=path_or("auto"), default=None,
        help="go on with this checkpoint, in its folder; 'auto': with the newest run of the same "
        "arguments below log_path, or a new one if there is none; a file outside a run folder, "
        "such as a published model_weights.pth, gives the initial weights of a new run; default: "
        "a new run")  # fmt: skip
    add_switch(group, "changed_data", False,
        "go on with --resume though the number of training samples is another by now, an epoch in "
        "progress begins anew; or take initial weights of a network of other classes")  # fmt: skip
    add("--evaluate", metavar="FILE", type=expanded_path, default=None,
        help="print the accuracy of every head of this checkpoint and exit; "
        "default: train")  # fmt: skip
    add("--device", default=None, help="cpu, cuda or cuda:N; default: cuda if there is one")
    add("--dist_timeout", metavar="MINUTES", type=number(float, 0, 1e4, open_low=True), default=10,
        help="how long one of several processes waits for another before giving up")  # fmt: skip
    add("--num_workers", metavar="PROCESSES", type=number(int, 0, 1024),
        help="processes that load training images, and test images from files; 0: none beside the "
        "training one")  # fmt: skip
    add("--checkpoint_every", type=number(int, 1), default=None, metavar="STEPS",
        help="save every so many steps too; default: only after each epoch")  # fmt: skip
    add("--keep_checkpoints", metavar="FILES", type=number(int, 1), default=2,
        help="newest checkpoints kept, beside the best")  # fmt: skip


def add_cache_flag(group: Any, what: str) -> None:
    """--cache_path: where the files go that are made of those in --data_path (`what`)."""
    text = f"where {what}, if it cannot be in data_path; default: data_path"
    group.add_argument(
        "--cache_path", metavar="FOLDER", type=expanded_path, default=None, help=text
    )


def add_check_flag(parser: FlagParser) -> None:
    """--check_data, for an experiment on images that has all its other flags."""
    read = {"dataset", "data_path", "cache_path", "reader", "num_workers"}
    idle = [name for name in parser.flags() if name not in read]
    parser.idle.append(Idle(lambda args: args.check_data, idle, "--check_data only reads images"))
    text = "read every image once, list those that cannot be read, and train nothing"
    add_switch(parser.add_argument_group("check"), "check_data", False, text)


def add_network_flags(group: Any) -> None:
    add = group.add_argument
    add("--arch", choices=list(MODELS), help="network")
    add("--method", choices=METHODS, default="esd",
        help="; ".join(f"{name}: {method.text}" for name, method in METHODS.items()))  # fmt: skip
    add("--width", type=optional(number(int, 1, 2**16), "paper"), default=None, metavar="CHANNELS",
        help="channels of the stem; default: 'paper', 64, and 128 for resnet19")  # fmt: skip
    add("--stem", choices=STEMS, default="published",
        help="small: for images of 32 to 64 pixels, a 3x3 convolution where the published stem of "
        "a preact_, sew_ or ms_resnet shrinks images of 224")  # fmt: skip
    add("--branch_pool", type=branch_pool, default="default", metavar="PIXELS|global|default",
        help="side of the branches' pooling window; default: the published one")  # fmt: skip


def add_neuron_flags(group: Any) -> None:
    add = group.add_argument
    add("--T", metavar="STEPS", type=number(int, 1), help="time steps of each image")
    add("--decay", metavar="SHARE", type=number(float, 0, 1), default=0.2,
        help="share of the membrane potential kept per time step, 0 to 1")  # fmt: skip
    add("--thresh", metavar="POTENTIAL", type=number(float, 0, open_low=True), default=1.0,
        help="firing threshold, in the unit of the membrane potential")  # fmt: skip
    add("--v_reset", metavar="POTENTIAL", default=None,
        type=optional(number(float, -math.inf), "none", "soft"),
        help="potential after a spike, below thresh; default: 'none', the threshold is "
        "subtracted (soft reset)")  # fmt: skip
    add_switch(group, "detach_reset", True, "gradients ignore the reset")


def add_training_flags(group: Any) -> None:
    add = group.add_argument
    add("--train_batch_size", metavar="IMAGES", type=number(int, 1),
        help="images per step, over all processes")  # fmt: skip
    add("--accum", metavar="PARTS", type=number(int, 1), default=1,
        help="take the images of a step in so many parts, which saves memory; batch norm then "
        "sees one part at a time")  # fmt: skip
    add_switch(group, "sync_bn", False,
        "batch norms see the images of all processes as one batch, not each its own")  # fmt: skip
    add("--val_batch_size", metavar="IMAGES", type=number(int, 1),
        help="images per step of an evaluation, over all processes")  # fmt: skip
    add("--num_epoch", metavar="EPOCHS", type=number(int, 1), help="passes over the training set")
    add("--optim", choices=OPTIMIZERS, default="SGDM", help="optimizer; SGDM: momentum 0.9")
    add("--lr", metavar="RATE", type=number(float, 0, open_low=True),
        help="initial learning rate, per step")  # fmt: skip
    add("--wd", metavar="RATE", type=number(float, 0),
        help="weight decay, per step (not on biases and batch norms)")  # fmt: skip
    add("--scheduler", choices=SCHEDULERS, default="COSINE",
        help="COSINE: learning rate to 0 over num_epoch")  # fmt: skip
    add("--alp", metavar="WEIGHT", type=number(float, 0),
        help="weight of the branches' cross-entropies")  # fmt: skip
    add("--beta", metavar="WEIGHT", type=number(float, 0), help="weight of the distillation terms")
    add("--teacher", choices=TEACHERS, default="reliable",
        help="; ".join(f"{name}: {teacher.text}" for name, teacher in TEACHERS.items())
        + "; default: %(default)s, the paper's")  # fmt: skip
    add("--amp", choices=PRECISIONS, default="none",
        help="none: fp32; bf16-backward: the spiking convolutions' backward in bfloat16, every "
        "spike as in fp32; bf16: all convolutions in bfloat16, neurons in fp32")  # fmt: skip
    add_switch(group, "tf32", True,
        "a GPU's convolutions read fp32 numbers rounded to TF32 (10 bits of mantissa), as is "
        "default in PyTorch and was in the published code; all else stays fp32")  # fmt: skip
    add_switch(group, "compile", False,
        "neurons and norms through torch.compile; on a CPU it needs a C++ compiler; where it fails "
        "they run uncompiled, and a line says why")  # fmt: skip
    add_switch(group, "cuda_graph", False,
        "on a GPU, record forward and backward once as a CUDA graph and replay it; a pass's memory "
        "stays reserved for it")  # fmt: skip
    add_switch(group, "sparse", False,
        "on a CPU, skip silent inputs in the training's convolutions of spikes, which are kept as "
        "bytes; each is the same up to rounding; needs a C++ compiler")  # fmt: skip
    add("--val_fraction", type=optional(number(float, 0, 1, open_low=True), "none"), default=None,
        metavar="FRACTION",
        help="part of the training set held out to select the best epoch, above 0 and below 1; "
        "default: 'none', it is chosen on the test set, as published")  # fmt: skip


def network_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that `model.build_model` takes, by its names."""
    names = (*INFERENCE_ARGUMENTS, "detach_reset", "branch_pool", "method")
    execution = Execution(
        backend="compiled" if args.compile else "auto",
        convolution_backward=torch.bfloat16 if args.amp == "bf16-backward" else None,
        sparse=in_effect(args, "sparse"),
    )
    return {"execution": execution, **{name: getattr(args, name) for name in names}}


def training_recipe(args: argparse.Namespace) -> Recipe:
    """The flags that the engine takes."""
    return Recipe(
        seed=args.seed,
        num_epoch=args.num_epoch,
        train_batch_size=args.train_batch_size,
        val_batch_size=args.val_batch_size,
        num_workers=args.num_workers,
        optim=args.optim,
        lr=args.lr,
        wd=args.wd,
        scheduler=args.scheduler,
        alp=args.alp,
        beta=args.beta,
        teacher=args.teacher,
        amp=args.amp,
        tf32=args.tf32,
        checkpoint_every=args.checkpoint_every,
        keep_checkpoints=args.keep_checkpoints,
        accum=args.accum,
        sync_bn=args.sync_bn,
        cuda_graph=in_effect(args, "cuda_graph"),
    )


def make_request(args: argparse.Namespace) -> Request:
    """The flags that say what to do, where, and from where to go on."""
    arguments = plain(args)
    identity = {name: value for name, value in arguments.items() if name not in CIRCUMSTANCES}
    named = args.teacher != "reliable" and not is_idle(args, "teacher")
    teacher = f"-{args.teacher}" if named else ""
    run_name = f"{args.dataset}_{args.arch}_T{args.T}_{args.method}{teacher}_seed{args.seed}"
    return Request(
        arguments=arguments,
        identity=identity,
        log_path=args.log_path,
        run_name=run_name,
        resume=args.resume,
        changed_data=args.changed_data,
        evaluate=args.evaluate,
        device=args.device,
        dist_timeout=args.dist_timeout,
    )


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """Every flag with its value, as JSON types; paths hold from any folder."""
    return {k: str(v.absolute()) if isinstance(v, Path) else v for k, v in vars(args).items()}
