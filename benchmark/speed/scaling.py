"""A training step in one and in several processes: time, images per second, bytes exchanged.

    OMP_NUM_THREADS=1 python -m benchmark.speed.scaling                   1 and 2 processes on a CPU
    python -m benchmark.speed.scaling --device cuda --processes 1 2 4 8 --arch preact_resnet34 \\
        --image_size 224 --batch 64 --amp bf16                        on the GPUs of one machine

Every process trains on its own --batch images (weak scaling), with the engine of the experiments,
on noise that is already in memory: what is measured is computing and exchanging. On a machine with
fewer free cores than processes, as on a CPU that others use too, efficiency says little about the
exchange; the bytes are exact everywhere.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from benchmark.speed.command import Parser, run, whole_number, workload_of
from benchmark.speed.measure import machine, machine_in_words, wait_for_device
from benchmark.speed.workload import Variant, Workload, build_network
from experiment.flag.amp import PRECISIONS
from experiment.train.loop import step_context
from experiment.train.recipe import Recipe
from experiment.train.state import TrainingState
from experiment.train.step import take_step
from model import RateModel
from model.batch_norm import synchronise as synchronise_batch_norms
from util.figure import markdown_table
from util.process.distributed import Group, process_group

NUM_CLASSES = 1000
WARMUP = 2
ROOT = Path(__file__).parents[2]
COLUMNS = (
    "processes",
    "ms per step",
    "images/s",
    "efficiency",
    "gradients, MB per step",
    "other exchanges, bytes per step",
)


class CountingGroup(Group):
    """A group that counts the bytes of what its processes exchange, beside the gradients."""

    bytes = 0

    def sum(self, values: Tensor) -> Tensor:
        self.bytes += values.nbytes
        return super().sum(values)

    def largest(self, values: Tensor) -> Tensor:
        self.bytes += values.nbytes
        return super().largest(values)


def count_gradients(network: DistributedDataParallel) -> list[int]:
    """A list that grows by the bytes of every bucket of gradients that is exchanged."""
    sizes: list[int] = []

    def exchange(group, bucket):  # no annotations: torch refuses those that are strings
        sizes.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    network.register_comm_hook(None, exchange)
    return sizes


def measure_process(
    net: RateModel, recipe: Recipe, group: Group, *, workload: Workload, steps: int
) -> dict[str, Any]:
    """Seconds and bytes of a step, in the process that runs this."""
    net.to(group.device, memory_format=torch.channels_last)
    counting = CountingGroup(*group)
    if recipe.sync_bn and group.world_size > 1:
        synchronise_batch_norms(net, counting)
    state = TrainingState(net, recipe, {})
    context = step_context(state, recipe, counting, to_input=lambda x: x)
    gradients = count_gradients(context.network) if group.world_size > 1 else []
    seconds: list[float] = []
    batch = replace(workload, device=str(group.device)).random_batch(torch.channels_last)
    progress = torch.ones((), device=group.device)
    net.train()
    for _ in range(WARMUP):
        take_step(context, [batch], progress)
    counting.bytes = 0
    gradients.clear()
    for _ in range(steps):
        wait_for_device(group.device.type)
        begun = time.perf_counter()
        take_step(context, [batch], progress)
        wait_for_device(group.device.type)
        seconds.append(time.perf_counter() - begun)
    return {
        "processes": group.world_size,
        "seconds": median(seconds),
        "gradient_bytes": sum(gradients) // steps,
        "other_bytes": counting.bytes // steps if group.world_size > 1 else 0,
        "parameters": sum(p.numel() for p in net.parameters()),
    }


def recipe_with(args: argparse.Namespace) -> Recipe:
    """The part of the flags that a step depends on; the rest of the recipe changes no cost."""
    step = {"train_batch_size": args.batch, "amp": args.amp, "sync_bn": args.sync_bn}
    update = {"lr": 0.01, "wd": 0.0}
    loss = {"alp": 0.7, "beta": 0.3}
    run = {"seed": 0, "num_epoch": 1, "val_batch_size": args.batch, "num_workers": 0}
    return Recipe(**step, **update, **loss, **run)


def run_processes(count: int, argv: Sequence[str]) -> dict[str, Any]:
    """This module in `count` processes; what the first one measured."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [sys.executable, *launcher, "-m", "benchmark.speed.scaling", *argv, "--measure"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{count} processes failed: {result.stderr[-3000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    text = "measure so many processes, one number after the other (default: 1 2)"
    add("--processes", metavar="N", type=whole_number, nargs="+", default=[1, 2], help=text)
    parser.add_shared(device="cpu", arch="resnet18", width=None, T=4)
    text = "images per process (default: %(default)s)"
    add("--batch", type=whole_number, default=16, help=text)
    text = "pixels per side (default: %(default)s)"
    add("--image_size", type=whole_number, default=32, help=text)
    text = "precision, as in the experiments (default: %(default)s)"
    add("--amp", choices=PRECISIONS, default="none", help=text)
    text = "batch norms see the images of all processes (default: each its own)"
    add("--sync_bn", action="store_true", help=text)
    add("--steps", type=whole_number, default=7, help="timed steps (default: %(default)s)")
    add("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser


def measure_here(args: argparse.Namespace) -> None:
    """What one process of several does; the first prints what was measured as JSON."""
    torch.manual_seed(0)
    sizes = {"size": args.image_size, "num_classes": NUM_CLASSES}
    workload = replace(workload_of(args, args.T), **sizes)
    net = build_network(Variant("scaling", amp=args.amp), workload)
    with process_group(args.device) as group:
        recipe, steps = recipe_with(args), args.steps
        result = measure_process(net, recipe, group, workload=workload, steps=steps)
        if group.is_first:
            print(json.dumps(result))


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    args = get_parser().parse_args(argv)
    if args.measure:
        measure_here(args)
        return
    print(machine_in_words(machine(args.device)) + "\n", flush=True)
    rows: list[list[str]] = []
    base = None
    try:
        for count in args.processes:
            found = run_processes(count, argv)
            rate = count * args.batch / found["seconds"]
            base = base or rate / count
            row = [
                str(count),
                f"{1000 * found['seconds']:.0f}",
                f"{rate:.1f}",
                f"{rate / count / base:.2f}",
                f"{found['gradient_bytes'] / 1e6:.1f}",
                f"{found['other_bytes']:,}",
            ]
            rows.append(row)
    finally:  # more processes may not find the memory that fewer had
        print(markdown_table(COLUMNS, rows, left=0))
    print(f"\n{found['parameters']:,} parameters")


if __name__ == "__main__":
    run(main)
