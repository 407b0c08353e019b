"""What a run says about itself, on the console and in train.log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from experiment.curves import distils
from experiment.flag.identity import differences
from experiment.train.state import TrainingState
from experiment.train.task import Training
from model import RateModel
from util.file.history import NEWEST
from util.process.distributed import Group

NO_SIGNALS = (
    "outside the main thread no signal stops the training: KeyboardInterrupt, raised in this "
    "thread, does, and saves"
)


def describe_device(group: Group) -> str:
    """The device as a person names it."""
    name = f"cpu ({torch.get_num_threads()} threads)"
    if group.device.type == "cuda":
        name = f"{group.device} ({torch.cuda.get_device_name(group.device)})"
    return name if group.world_size == 1 else f"{name}, the first of {group.world_size} processes"


def describe_accumulation(training: Training, net: RateModel) -> str:
    """What --accum changes beside memory."""
    several_heads = net.branches and training.recipe.beta
    average = ", and distillation averages over them" if several_heads else ""
    return (
        f"--accum {training.recipe.accum}: batch norm sees {training.part} images at a "
        f"time{average}, not the {training.share} that this process has in a step"
    )


def describe_fresh_start(
    wanted: dict[str, Any], near: tuple[Path, dict[str, Any]] | None = None
) -> str:
    """That no run could be resumed; near: one that may be meant, its folder and what it computes.

    It differs in few things from what is wanted; how to go on with it is said.
    """
    none = "--resume auto: no checkpoint of a run with these arguments yet"
    line = f"{none}, training from the beginning"
    if near is None:
        return line
    folder, saved = near
    asked = wanted["num_epoch"]
    more = f" --num_epoch {asked}" if saved.get("num_epoch") in range(1, asked) else ""
    other = ", ".join(differences(saved, wanted))
    return f"{line}; --resume {folder / NEWEST}{more} goes on with one that has {other}"


def describe_extension(before: int, now: int, state: TrainingState) -> str:
    """What another number of epochs changes for a run that goes on."""
    rate = state.scheduler.get_last_lr()[0]
    warms_up = state.epoch < state.arguments.get("warmup", 0)
    factor = ", times the warm-up's factor" if warms_up else ""
    return (
        f"--num_epoch {now} (was {before}): from epoch {state.epoch} on the learning rate is that "
        f"of a run of {now} epochs, {rate:.4g} now{factor}"
    )


def describe_epoch(record: dict[str, Any], best: dict[str, float] | None) -> str:
    """An epoch in one line; of distillation and an evaluation only where there is some."""
    train = record["train"]
    parts = [f"epoch {record['epoch']}", f"loss {train['total']:.4f}"]
    if distils([record]):
        parts[1] += f" (hard {train['hard']:.4f}, soft {train['soft']:.4f})"
        parts.append(f"reliable {100 * train['reliable']:.1f} %")
    parts.append(f"train {train['head_top1'][-1]:.2f} %")
    sets = [name for name in ("validation", "test") if name in record]
    parts += [f"{name} {record[name]['top1']:.2f} %" for name in sets]
    if "ema" in record:
        parts.append(f"ema {record['ema']['test']['top1']:.2f} %")
    if sets:
        parts.append(f"best {best['top1']:.2f} % (epoch {best['epoch']})")
    parts.append(f"{record['timing']['images_per_second']:.0f} images/s")
    return "; ".join(parts)


def describe_result(result: dict[str, Any]) -> str:
    if "test_epoch" not in result:
        return "finished: no epoch was evaluated (--eval_every); --evaluate names a checkpoint"
    last = result["test_epoch"]
    place = "the last epoch" if last + 1 == result["epochs"] else f"epoch {last}"
    return (
        f"finished: test top-1 {result['test_top1']:.2f} % after {place}, "
        f"{result['best_test_top1']:.2f} % at epoch {result['best_epoch']}, the best on the "
        f"{result['best_chosen_on']} set; curves in {result['folder']}/curves.png"
    )
