"""Where the time of one training step goes, by kind of work.

    python benchmark/profile.py                       resnet18, T 4, B 16, one core
    python benchmark/profile.py --T 6 --compile
    python benchmark/profile.py --device cuda --batch 128 --T 6

Every operation that PyTorch's profiler records is counted once, by its own time, under the first
kind that fits. The profiler itself slows small operations down, so shares are indicative. Behind
them stand the operations (on a GPU: kernels) that take longest.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":  # from any folder; and this file must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmark.command import Parser, device, run, whole_number
from benchmark.contestant import VARIANTS, Contestant, Workload
from benchmark.measure import machine, synchronise
from model import MODELS
from model.branch import Branch

BRANCH = "branch forward"
BACKWARD = "autograd::engine::evaluate_function"
OPTIMIZER = "Optimizer.step"
BUSIEST = 15  # operations or kernels that are named
KINDS_OF_OPERATION = {
    "convolution": "convolutions",
    "batch_norm_update_stats": "batch statistics",
    "spiking::fire_backward": "norms and neurons",  # before its prefix
    "spiking::fire": "neurons",
    "Compiled": "neurons",
    "graph_": "neurons",
    "_kernel": "neurons",
    "batch_norm_backward": "norms and neurons",
}


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--arch", choices=MODELS, default="resnet18", help="network (default: %(default)s)")
    add("--T", type=whole_number, default=4, help="time steps (default: %(default)s)")
    add("--batch", type=whole_number, default=16, help="samples B (default: %(default)s)")
    add("--size", type=whole_number, default=32, help="pixels per side (default: %(default)s)")
    add("--compile", action="store_true", help="elementwise parts through torch.compile")
    add("--sparse", action="store_true", help="convolutions of spikes that skip silent inputs")
    add("--repeats", type=whole_number, default=3, help="steps recorded (default: %(default)s)")
    add("--threads", type=whole_number, default=1, help="CPU threads (default: %(default)s)")
    add("--device", type=device, default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser


def ancestors(event) -> Iterator[str]:
    """Names of an event and of those around it, innermost first."""
    while event is not None:
        yield event.name
        event = event.cpu_parent


def kind_of(event) -> str:
    """The line of the table to which an event's own time belongs."""
    names = list(ancestors(event))
    operation = next(
        (kind for name in names for part, kind in KINDS_OF_OPERATION.items() if part in name),
        "other",
    )
    if any(OPTIMIZER in name for name in names):
        return "optimizer"
    if BRANCH in names:
        return f"branches, forward: {convolution_of(event)}"
    if any("_LayerGradientBackward" in name for name in names):
        return f"spiking layers, backward: {operation}"
    if any(BACKWARD in name for name in names):
        return f"branches, heads and loss, backward: {convolution_of(event)}"
    return f"spiking layers and loss, forward: {operation}"


def convolution_of(event) -> str:
    """Which kind of convolution an event of a branch belongs to, by the shape of its weights."""
    while event is not None and "conv" not in event.name.lower():
        event = event.cpu_parent
    shapes = [] if event is None else event.input_shapes
    if not shapes:
        return "other"
    depthwise = any(len(s) == 4 and s[1] == 1 and s[2] == s[3] == 3 for s in shapes)
    return "depthwise convolutions" if depthwise else "other convolutions"


class Profile:
    """`repeats` steps of a contestant under the profiler.

    spent: microseconds per step of every kind; busiest: of the operations that take longest (on a
    GPU of kernels), with their number per step; wall: microseconds from step to step.
    """

    def __init__(self, contestant: Contestant, *, repeats: int, device: str):
        on_gpu = device != "cpu"
        mark_branches(contestant)
        for _ in range(2):
            contestant.step()
        synchronise(device)
        begun = time.perf_counter()
        for _ in range(repeats):
            contestant.step()
        synchronise(device)
        self.wall = 1e6 * (time.perf_counter() - begun) / repeats
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        with profile(activities=activities, record_shapes=True, acc_events=True) as record:
            for _ in range(repeats):
                contestant.step()
            synchronise(device)
        self.spent: Counter = Counter()
        times, numbers = Counter(), Counter()
        for event in record.events():
            on_host = event.device_type == torch.autograd.DeviceType.CPU
            if on_host:
                own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
                self.spent[kind_of(event)] += own / repeats
            if on_host != on_gpu and not event.is_user_annotation:
                own = event.self_cpu_time_total if on_host else event.device_time_total
                times[event.name] += own / repeats
                numbers[event.name] += 1 / repeats
        self.busiest = [(name, own, numbers[name]) for name, own in times.most_common(BUSIEST)]


def mark_branches(contestant: Contestant) -> None:
    """Make every branch's forward pass visible to the profiler."""
    for module in contestant.net.modules():
        if isinstance(module, Branch):
            module.forward = _recorded(module.forward)


def _recorded(forward):
    def run(rate):
        with record_function(BRANCH):
            return forward(rate)

    return run


def main(argv: list[str] | None = None) -> Counter:
    args = get_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    workload = Workload(args.arch, args.T, args.batch, True, args.size, device=args.device)
    name = "one_pass" + "_sparse" * args.sparse + "_compiled" * args.compile
    contestant = Contestant(VARIANTS[name], workload)
    found = Profile(contestant, repeats=args.repeats, device=args.device)
    spent, total = found.spent, sum(found.spent.values())
    print("# Where a step's time goes\n")
    print(", ".join(f"{key} {value}" for key, value in machine(args.device).items()))
    print(f"{args.arch}, T = {args.T}, B = {args.batch}, with branches\n")
    print("| part of a step | ms | share |\n|--|--:|--:|")
    for kind, microseconds in spent.most_common():
        print(f"| {kind} | {microseconds / 1e3:.1f} | {100 * microseconds / total:.1f} % |")
    print(f"| sum | {total / 1e3:.1f} | |\n")
    print("| what takes longest | per step | ms |\n|--|--:|--:|")
    for operation, microseconds, count in found.busiest:
        print(f"| {operation} | {count:g} | {microseconds / 1e3:.1f} |")
    return spent


if __name__ == "__main__":
    run(main)
