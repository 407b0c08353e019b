"""A training step in one and in several processes: time, images per second, bytes exchanged.

    OMP_NUM_THREADS=1 python benchmark/scaling.py                     1 and 2 processes on a CPU
    python benchmark/scaling.py --device cuda --processes 1 2 4 8 --arch preact_resnet34 \\
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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from any folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from benchmark.command import Parser, device, run, whole_number
from benchmark.measure import machine, median, synchronise
from experiment.engine import train_one_epoch
from experiment.gradient_pass import gradient_pass
from experiment.recipe import PRECISIONS, Recipe
from experiment.training_state import TrainingState
from model import MODELS, Execution, RateModel, build_model
from model.batch_norm import synchronise as synchronise_batch_norms
from model.distillation import SelfDistillationLoss
from util.distributed import Group, process_group

NUM_CLASSES = 1000
WARMUP = 2


class CountingGroup:
    """A group that counts the bytes of what its processes add up, beside the gradients."""

    def __init__(self, group: Group):
        self.group, self.bytes = group, 0
        self.rank, self.world_size, self.device = group

    def sum(self, values: Tensor) -> Tensor:
        self.bytes += values.nbytes
        return self.group.sum(values)

    def mean(self, values: Tensor) -> Tensor:
        self.bytes += values.nbytes
        return self.group.mean(values)

    def any(self, flag: bool) -> bool:
        self.bytes += 8
        return self.group.any(flag)


def count_gradients(network: DistributedDataParallel) -> list[int]:
    """A list that grows by the bytes of every bucket of gradients that is exchanged."""
    sizes: list[int] = []

    def exchange(group, bucket):  # no annotations: torch refuses those that are strings
        sizes.append(bucket.buffer().nbytes)
        return allreduce_hook(group, bucket)

    network.register_comm_hook(None, exchange)
    return sizes


def network(arch: str, *, T: int, width: int | None, amp: str) -> RateModel:
    """The untrained network of the steps."""
    low_backward = torch.bfloat16 if amp == "bf16-backward" else None
    torch.manual_seed(0)
    return build_model(
        arch, num_classes=NUM_CLASSES, T=T, branch_pool=None, width=width,
        execution=Execution(convolution_backward=low_backward),
    )  # fmt: skip


def measure(
    net: RateModel, recipe: Recipe, group: Group, *, image_size: int, steps: int
) -> dict[str, Any]:
    """Seconds and bytes of a step, in the process that runs this."""
    net.to(group.device, memory_format=torch.channels_last)
    counting = CountingGroup(group)
    if recipe.sync_bn and group.world_size > 1:
        synchronise_batch_norms(net, counting)
    state = TrainingState(net, recipe, {})
    gradients: list[int] = []
    average = None
    if group.world_size > 1:
        state.forward = DistributedDataParallel(
            net, broadcast_buffers=False, gradient_as_bucket_view=True
        )
        gradients = count_gradients(state.forward)
        average = counting.mean
    seconds: list[float] = []
    loss_function = SelfDistillationLoss(recipe.alp, recipe.beta, average=average)
    take_pass = gradient_pass(state, loss_function, recipe, group)
    batches = noise(group.device, batch=recipe.train_batch_size, image_size=image_size)
    training = train_one_epoch(state, batches, take_pass, lambda x: x, counting)
    for _ in range(WARMUP):
        next(training)
    counting.bytes = 0
    gradients.clear()
    for _ in range(steps):
        synchronise(group.device.type)
        begun = time.perf_counter()
        next(training)
        synchronise(group.device.type)
        seconds.append(time.perf_counter() - begun)
    return {
        "processes": group.world_size,
        "seconds": median(seconds),
        "gradient_bytes": sum(gradients) // steps,
        "other_bytes": counting.bytes // steps if group.world_size > 1 else 0,
        "parameters": sum(p.numel() for p in net.parameters()),
    }


def noise(device: torch.device, *, batch: int, image_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same batch for ever, on the device."""
    shape = (batch, 3, image_size, image_size)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(NUM_CLASSES, (batch,), device=device)
    while True:
        yield images, labels


def run_processes(count: int, argv: Sequence[str]) -> dict[str, Any]:
    """This file in `count` processes; what the first one measured."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [sys.executable, *launcher, __file__, *argv, "--measure"]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise SystemExit(f"{count} processes failed: {result.stderr[-3000:]}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--processes", metavar="N", type=whole_number, nargs="+", default=[1, 2],
        help="measure so many processes, one number after the other (default: 1 2)")  # fmt: skip
    add("--device", type=device, default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--arch", choices=MODELS, default="resnet18", help="network (default: %(default)s)")
    add("--width", type=whole_number, default=None,
        help="channels of the first stage (default: the paper's)")  # fmt: skip
    add("--T", type=whole_number, default=4, help="time steps (default: %(default)s)")
    add("--batch", type=whole_number, default=16, help="images per process (default: %(default)s)")
    add("--image_size", type=whole_number, default=32,
        help="pixels per side (default: %(default)s)")  # fmt: skip
    add("--amp", choices=PRECISIONS, default="none",
        help="precision, as in the experiments (default: %(default)s)")  # fmt: skip
    add("--sync_bn", action="store_true",
        help="batch norms see the images of all processes (default: each its own)")  # fmt: skip
    add("--steps", type=whole_number, default=7, help="timed steps (default: %(default)s)")
    add("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else list(argv)
    args = get_parser().parse_args(argv)
    if args.measure:
        net = network(args.arch, T=args.T, width=args.width, amp=args.amp)
        recipe = Recipe(
            seed=0, num_epoch=1, train_batch_size=args.batch, val_batch_size=args.batch,
            num_workers=0, optim="SGDM", lr=0.01, wd=0, scheduler="COSINE", alp=0.7, beta=0.3,
            amp=args.amp, sync_bn=args.sync_bn,
        )  # fmt: skip
        with process_group(args.device) as group:
            result = measure(net, recipe, group, image_size=args.image_size, steps=args.steps)
            if group.is_first:
                print(json.dumps(result))
        return
    print(", ".join(f"{name} {value}" for name, value in machine(args.device).items()))
    print("\n| processes | ms per step | images/s | efficiency | gradients, MB per step "
          "| other exchanges, bytes per step |\n|--:|--:|--:|--:|--:|--:|")  # fmt: skip
    base = None
    for count in args.processes:
        found = run_processes(count, argv)
        rate = count * args.batch / found["seconds"]
        base = base or rate / count
        print(f"| {count} | {1000 * found['seconds']:.0f} | {rate:.1f} | {rate / count / base:.2f} "
              f"| {found['gradient_bytes'] / 1e6:.1f} | {found['other_bytes']:,} |",
              flush=True)  # fmt: skip
    print(f"\n{found['parameters']:,} parameters")


if __name__ == "__main__":
    run(main)
