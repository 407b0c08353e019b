"""What a training step costs in time and memory as T grows, for every training method.

    python benchmark/cost.py                                    resnet18, width 64, B 8, one core
    python benchmark/cost.py --T 1 2 4 8 --methods esd esd_sparse bptt --output result
    python benchmark/cost.py --device cuda --batch 128 --output docs/benchmark/gpu

Writes cost.md, cost.json and cost.png. A step is forward, loss, backward and SGD on one random
batch, in as many passes as the method asks for; its backward passes are timed apart, too. Each
method runs in a process of its own, one after the other, from small T to large; ratios between
methods are as steady as the machine is.

Bytes kept for backward are those that autograd holds when a forward pass ends, the largest of the
passes of a step, and the neurons' memory between them; exact and free of timing. The peaks add what
lives for a moment: in the forward pass the spike trains of T*B samples of a layer or two, which
grow with T for every method that runs all time steps at once; in the backward pass gradients.
"""

from __future__ import annotations

import multiprocessing
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

if __name__ == "__main__":  # from any folder; and `profile.py` must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import Tensor

from benchmark.command import Parser, device, run, whole_number
from benchmark.contestant import ALP, BETA, LEARNING_RATE, SEED, Workload
from benchmark.cost_report import Cost, cost_files, markdown
from benchmark.measure import machine, median, saved_bytes, stage_peaks, stage_seconds
from experiment.flag_parser import expanded_path
from model import METHODS, MODELS, Execution, build_model
from model.activation import Activation
from model.distillation import SelfDistillationLoss

TIME_STEPS = (1, 2, 4, 6, 8, 10, 16, 32)
SPARSE = "_sparse"  # behind a method: convolutions of spikes skip silent inputs, on a CPU
WAYS = [*METHODS, *(f"{name}{SPARSE}" for name, method in METHODS.items() if method.by_rates)]


class MethodStep:
    """A training step of one way to train on a fixed random batch of `workload`.

    way: a key of METHODS, or one with SPARSE behind it.
    """

    def __init__(self, way: str, workload: Workload):
        torch.manual_seed(SEED)
        w = workload
        net = build_model(
            w.arch, method=way.removesuffix(SPARSE), num_classes=w.num_classes,
            in_channels=w.in_channels, T=w.T, width=w.width, branch_pool=None,
            execution=Execution(sparse=way.endswith(SPARSE)),
        )  # fmt: skip
        self.net = net.to(w.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE, momentum=0.9)
        images = torch.randn(w.batch, w.in_channels, w.size, w.size, device=w.device)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(w.num_classes, (w.batch,), device=w.device)
        self.loss_function = SelfDistillationLoss(ALP, BETA)

    def stages(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """What a step does, in turn, as "forward", "backward" and "update"."""
        self.optimizer.zero_grad(set_to_none=True)
        loss: list[Tensor] = []
        for x in self.passes():
            yield "forward", lambda own=x: loss.append(self.loss(own))
            yield "backward", lambda: loss.pop().backward()
        yield "update", self.optimizer.step

    def passes(self) -> Iterable[Tensor | Activation]:
        """What the network is given in a step, in turn: the batch, or online its time steps."""
        own_pass = self.net.method.own_pass
        return [self.images] if own_pass is None else own_pass.steps(self.net, self.images)

    def loss(self, x: Tensor | Activation) -> Tensor:
        """The loss of one pass, with its graph."""
        passes = self.net.T if self.net.method.online else 1
        return self.loss_function(self.net(x), self.labels).total / (self.net.T * passes)

    def kept_bytes(self) -> int:
        """Kept for backward when a forward pass ends, and the memory between passes."""
        largest, memory = 0, {}
        for x in self.passes():
            kept = saved_bytes(lambda own=x: self.loss(own), self.net.parameters())
            largest = max(largest, kept)
            memory = x.memory if self.net.method.online else {}
        return largest + sum(t.nbytes for past in memory.values() for t in past if t is not None)


def costs_of(
    method: str, workloads: list[Workload], threads: int, repeats: int, warmup: int
) -> Iterator[Cost]:
    """One row per workload, measured one after the other."""
    torch.set_num_threads(threads)
    for workload in workloads:
        own = MethodStep(method, workload)
        seconds = stage_seconds(own.stages, repeats=repeats, warmup=warmup, device=workload.device)
        own.optimizer.zero_grad(set_to_none=True)  # else the step would free gradients first
        peaks = stage_peaks(own.stages(), workload.device)
        yield Cost(
            method, workload.T, workload.batch, median(sum(s.values()) for s in seconds),
            median(s["backward"] for s in seconds), own.kept_bytes(),
            peaks["forward"], max(peaks["backward"], peaks["update"]),
        )  # fmt: skip


def measure_apart(
    method: str, workloads: list[Workload], *, threads: int, repeats: int, warmup: int
) -> list[Cost]:
    """`costs_of` in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_listed, method, workloads, threads, repeats, warmup).result()


def _listed(*arguments) -> list[Cost]:
    return list(costs_of(*arguments))


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--arch", choices=MODELS, default="resnet18", help="network (default: %(default)s)")
    add("--width", type=whole_number, default=None,
        help="channels of the first stage (default: the paper's)")  # fmt: skip
    add("--T", type=whole_number, nargs="+", default=TIME_STEPS, metavar="STEPS",
        help=f"time steps (default: {' '.join(map(str, TIME_STEPS))})")  # fmt: skip
    add("--methods", nargs="+", choices=WAYS, default=list(METHODS), metavar="NAME",
        help=f"any of {', '.join(WAYS)} (default: all without {SPARSE})")  # fmt: skip
    add("--batch", type=whole_number, default=8, help="samples B (default: %(default)s)")
    add("--size", type=whole_number, default=32, help="pixels per side (default: %(default)s)")
    add("--in_channels", type=whole_number, default=3, help="input channels (default: %(default)s)")
    add("--num_classes", type=whole_number, default=10, help="classes K (default: %(default)s)")
    add("--repeats", type=whole_number, default=3, help="timed steps (default: %(default)s)")
    add("--warmup", type=whole_number, default=1, help="untimed steps (default: %(default)s)")
    add("--threads", type=whole_number, default=1, help="CPU threads (default: %(default)s)")
    add("--device", type=device, default="cpu", help="cpu or cuda (default: %(default)s)")
    add("--output", type=expanded_path, default=Path("benchmark-result"), metavar="FOLDER",
        help="folder for cost.md, cost.json and cost.png (default: %(default)s)")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> list[Cost]:
    parser = get_parser()
    args = parser.parse_args(argv)
    parser.make_folder(args.output)
    workloads = [
        Workload(args.arch, T, args.batch, True, args.size, args.in_channels, args.num_classes,
                 args.width, args.device)
        for T in sorted(set(args.T))
    ]  # fmt: skip
    command = shlex.join(["python", "benchmark/cost.py", *(sys.argv[1:] if argv is None else argv)])
    rows: list[Cost] = []
    for method in args.methods:
        rows += measure_apart(
            method, workloads, threads=args.threads, repeats=args.repeats, warmup=args.warmup
        )
        print(
            f"{method}: {', '.join(f'T {r.T} {r.seconds:.3f} s' for r in rows[-len(workloads) :])}"
        )
    conditions = {**machine(args.device), "threads": args.threads, "arch": args.arch}
    print(markdown(rows, conditions, command))
    parser.write(args.output, cost_files(rows, conditions, command))
    return rows


if __name__ == "__main__":
    run(main)
