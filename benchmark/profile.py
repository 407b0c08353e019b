"""Where the time of one training step goes, by kind of work.

    python benchmark/profile.py                       resnet18, T 4, B 16, one core
    python benchmark/profile.py --T 6 --compile
    python benchmark/profile.py --device cuda --batch 128 --T 6

Every operation that PyTorch's profiler records is counted once, by its own time, under the first
kind that fits. The profiler itself slows small operations down, so shares are indicative.
"""

from __future__ import annotations

import sys
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
KINDS_OF_OPERATION = {
    "convolution": "convolutions",
    "batch_norm_update_stats": "batch statistics",
    "spiking::fire": "neurons",
    "Compiled": "neurons",
    "graph_": "neurons",
    "_kernel": "neurons",
    "spiking::norm_lif_backward": "norms and neurons",
    "batch_norm_backward": "norms and neurons",
    "spiking::norm": "norms without neurons",
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
        return "branches, forward"
    if any("_ConvNormGradientBackward" in name for name in names):
        return f"spiking layers, backward: {operation}"
    if any(BACKWARD in name for name in names):
        return "branches, heads and loss, backward"
    return f"spiking layers and loss, forward: {operation}"


def shares(contestant: Contestant, *, repeats: int, device: str) -> Counter:
    """Microseconds per step of every kind."""
    on_gpu = device != "cpu"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    contestant.step()
    with profile(activities=activities) as record:
        for _ in range(repeats):
            contestant.step()
        synchronise(device)
    spent: Counter = Counter()
    for event in record.events():
        own = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if event.device_type == torch.autograd.DeviceType.CPU:
            spent[kind_of(event)] += own / repeats
    return spent


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
    mark_branches(contestant)
    spent = shares(contestant, repeats=args.repeats, device=args.device)
    total = sum(spent.values())
    print("# Where a step's time goes\n")
    print(", ".join(f"{key} {value}" for key, value in machine(args.device).items()))
    print(f"{args.arch}, T = {args.T}, B = {args.batch}, with branches\n")
    print("| part of a step | ms | share |\n|--|--:|--:|")
    for kind, microseconds in spent.most_common():
        print(f"| {kind} | {microseconds / 1e3:.1f} | {100 * microseconds / total:.1f} % |")
    print(f"| sum | {total / 1e3:.1f} | |")
    return spent


if __name__ == "__main__":
    run(main)
