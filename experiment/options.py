"""Command-line flags that all experiments share, and what they mean to the layers below.

Each experiment's config.py gives the defaults (its paper recipe) and adds its own flags; only
`main` sees parsed arguments, and turns them with `network_arguments` and `training_recipe` into
what the layers below take.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiment.recipe import OPTIMIZERS, PRECISIONS, SCHEDULERS, Recipe
from experiment.run import Request
from model import METHODS, MODELS

# Flags that do not change what is computed: a run may be resumed with other values of them.
CIRCUMSTANCES = ("data_path", "log_path", "resume", "evaluate", "num_workers", "val_batch_size",
                 "device", "checkpoint_every", "keep_checkpoints")  # fmt: skip


def number(
    kind: Callable[[str], Any], low: float, high: float = math.inf, *, open_low: bool = False
) -> Callable[[str], Any]:
    """An argparse type: a finite number of a kind within [low, high], or (low, high]."""

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {what}, got {text!r}") from None
        too_low = value <= low if open_low else value < low
        if too_low or value > high or not math.isfinite(value):
            least = f"above {low}" if open_low else f"at least {low}"
            most = "" if high == math.inf else f" and at most {high}"
            raise argparse.ArgumentTypeError(f"expected a number {least}{most}, got {text}")
        return value

    return parse


def optional(kind: Callable[[str], Any], *names: str) -> Callable[[str], Any]:
    """An argparse type: any of `names` (returned as None), or what `kind` parses."""

    def parse(text: str) -> Any:
        return None if text.lower() in names else kind(text)

    return parse


def branch_pool(text: str) -> int | str | None:
    """ "default", "global" (None) or a window in pixels."""
    return text if text == "default" else optional(number(int, 1), "global")(text)


def add_switch(group: Any, name: str, default: bool | None, text: str) -> None:
    """A flag --name with its opposite --no-name."""
    group.add_argument(
        f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=text
    )


def make_parser(
    description: str, datasets: Sequence[str], defaults: dict[str, Any]
) -> argparse.ArgumentParser:
    """The shared flags, with `defaults` for every one whose default is the experiment's own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_run_flags(parser.add_argument_group("run"), datasets)
    add_network_flags(parser.add_argument_group("network"))
    add_neuron_flags(parser.add_argument_group("neuron"))
    add_training_flags(parser.add_argument_group("training"))
    parser.set_defaults(**defaults)
    return parser


def add_run_flags(group: Any, datasets: Sequence[str]) -> None:
    add = group.add_argument
    add("--seed", type=number(int, 0, 2**32 - 1), help="seed of weights, order and augmentation")
    add("--dataset", choices=datasets, help="data set")
    add("--data_path", type=Path, help="folder of the data set")
    add("--log_path", type=Path, help="folder in which each run makes its own folder")
    add("--resume", metavar="FILE|auto", default=None,
        help="go on with this checkpoint, in its folder; 'auto': with the newest unfinished run "
        "of the same arguments below log_path, or a new one; a published model_weights.pth "
        "gives the initial weights of a new run")  # fmt: skip
    add("--evaluate", metavar="FILE", type=Path, default=None,
        help="print the accuracy of every head of this checkpoint and exit")  # fmt: skip
    add("--device", default=None, help="cpu, cuda or cuda:N; default: cuda if there is one")
    add("--num_workers", type=number(int, 0), help="processes that load data; 0: none")
    add("--checkpoint_every", type=number(int, 1), default=None, metavar="STEPS",
        help="save every so many steps too, not only after each epoch")  # fmt: skip
    add("--keep_checkpoints", type=number(int, 1), default=2, help="newest checkpoints kept")


def add_network_flags(group: Any) -> None:
    add = group.add_argument
    add("--arch", choices=list(MODELS), help="network")
    add("--method", choices=METHODS, default="esd",
        help="esd: rate gradients, branches, distillation; rate: rate gradients alone; bptt: "
        "surrogate gradients through time")  # fmt: skip
    add("--width", type=optional(number(int, 1), "paper"), default=None, metavar="CHANNELS",
        help="channels of the first stage; 'paper' (or None): 64, and 128 for resnet19")  # fmt: skip
    add("--branch_pool", type=branch_pool, default="default", metavar="PIXELS|global|default",
        help="pooling window of the branches; default: as published for the arch")  # fmt: skip


def add_neuron_flags(group: Any) -> None:
    add = group.add_argument
    add("--T", type=number(int, 1), help="time steps")
    add("--decay", type=number(float, 0, 1), default=0.2,
        help="share of the membrane potential kept from step to step")  # fmt: skip
    add("--thresh", type=number(float, 0, open_low=True), default=1.0, help="firing threshold")
    add("--v_reset", type=optional(number(float, -math.inf), "none", "soft"), default=None,
        help="potential after a spike; 'none': subtract the threshold (soft reset)")  # fmt: skip
    add_switch(group, "detach_reset", True, "gradients ignore the reset")


def add_training_flags(group: Any) -> None:
    add = group.add_argument
    add("--train_batch_size", type=number(int, 1), help="images per step, over all processes")
    add("--val_batch_size", type=number(int, 1), help="images per step of an evaluation")
    add("--num_epoch", type=number(int, 1), help="epochs")
    add("--optim", choices=OPTIMIZERS, default="SGDM", help="optimizer; SGDM: momentum 0.9")
    add("--lr", type=number(float, 0, open_low=True), help="initial learning rate")
    add("--wd", type=number(float, 0), help="weight decay (not on biases and batch norms)")
    add("--scheduler", choices=SCHEDULERS, default="COSINE",
        help="COSINE: learning rate to 0 over num_epoch")  # fmt: skip
    add("--alp", type=number(float, 0), help="weight of the branches' cross-entropies")
    add("--beta", type=number(float, 0), help="weight of the distillation terms")
    add("--amp", choices=PRECISIONS, default="none",
        help="none: fp32; bf16: convolutions in bfloat16, neurons and statistics in fp32")  # fmt: skip
    add("--val_fraction", type=optional(number(float, 0, 1, open_low=True), "none"), default=None,
        metavar="FRACTION",
        help="part of the training set held out to select the best epoch; without it the best "
        "epoch is chosen on the test set, as published")  # fmt: skip


def network_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """The flags that `model.build_model` takes, by its names."""
    names = ("arch", "T", "decay", "thresh", "v_reset", "detach_reset", "branch_pool", "method",
             "width")  # fmt: skip
    return {name: getattr(args, name) for name in names}


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
        amp=args.amp,
        checkpoint_every=args.checkpoint_every,
        keep_checkpoints=args.keep_checkpoints,
    )


def make_request(args: argparse.Namespace) -> Request:
    """The flags that say what to do, where, and from where to go on."""
    arguments = plain(args)
    identity = {name: value for name, value in arguments.items() if name not in CIRCUMSTANCES}
    run_name = f"{args.dataset}_{args.arch}_T{args.T}_{args.method}_seed{args.seed}"
    return Request(
        arguments=arguments,
        identity=identity,
        log_path=args.log_path,
        run_name=run_name,
        resume=args.resume,
        evaluate=args.evaluate,
        device=args.device,
    )


def plain(args: argparse.Namespace) -> dict[str, Any]:
    """Every flag with its value, as JSON types."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
