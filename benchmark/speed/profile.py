"""Where the time of one training step goes, by kind of work.

    python -m benchmark.speed.profile                       resnet18, T 4, B 16, one core
    python -m benchmark.speed.profile --T 6 --compile
    python -m benchmark.speed.profile --width 8 --batch 128 --size 28 --in_channels 1
    python -m benchmark.speed.profile --device cuda --batch 128 --T 6

Every operation that PyTorch's profiler records is counted once, by its own time, under the first
kind that fits. The profiler itself slows small operations down, so shares are indicative. Behind
them stand the operations (on a GPU: kernels) that take longest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmark.speed.command import Parser, run, workload_of
from benchmark.speed.harness import TrainingStep
from benchmark.speed.measure import (
    Rounds,
    machine,
    machine_in_words,
    median_seconds,
    undivided,
    wait_for_device,
)
from benchmark.speed.workload import VARIANTS
from model.branch import Branch
from util.figure import markdown_table

BRANCH = "branch forward"
BACKWARD = "autograd::engine::evaluate_function"
OPTIMIZER = "Optimizer.step"
BUSIEST = 15  # operations or kernels that are named
KINDS_OF_OPERATION = {
    "convolution": "convolutions",
    "norm_constants": "batch statistics",
    "spiking::fire_backward": "norms and neurons",  # before its prefix
    "spiking::fire": "neurons",
    "Compiled": "neurons",
    "graph_": "neurons",
    "_kernel": "neurons",
    "batch_norm_backward": "norms and neurons",
}


def get_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_shared(arch="resnet18", width=None, T=4, batch=16, size=32, in_channels=3)
    add = parser.add_argument
    add("--compile", action="store_true", help="elementwise parts through torch.compile")
    add("--sparse", action="store_true", help="convolutions of spikes that skip silent inputs")
    parser.add_shared(repeats=3, threads=1, device="cpu")
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
    """`repeats` steps under the profiler.

    spent: microseconds per step of every kind; busiest: of the operations that take longest (on a
    GPU of kernels), with their number per step; wall: microseconds from step to step.
    """

    def __init__(self, step: TrainingStep, repeats: int):
        mark_branches(step)
        device = step.workload.device
        on_gpu = device != "cpu"

        def take_steps() -> None:
            for _ in range(repeats):
                step()

        (seconds,) = median_seconds([undivided(take_steps)], Rounds(1), device)
        self.wall = 1e6 * seconds["step"] / repeats
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
        with profile(activities=activities, record_shapes=True, acc_events=True) as record:
            take_steps()
            wait_for_device(device)
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
        self.total = sum(self.spent.values())


def mark_branches(step: TrainingStep) -> None:
    for module in step.net.modules():
        if isinstance(module, Branch):
            module.forward = record_function(BRANCH)(module.forward)


def main(argv: list[str] | None = None) -> Counter:
    args = get_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    name = "one_pass" + "_sparse" * args.sparse + "_compiled" * args.compile
    workload = workload_of(args, args.T)
    found = Profile(TrainingStep(VARIANTS[name], workload), args.repeats)
    parts = [
        [kind, f"{own / 1e3:.1f}", f"{100 * own / found.total:.1f} %"]
        for kind, own in found.spent.most_common()
    ]
    parts.append(["sum", f"{found.total / 1e3:.1f}", ""])
    longest = [[name, f"{count:g}", f"{own / 1e3:.1f}"] for name, own, count in found.busiest]
    lines = [
        "# Where a step's time goes\n",
        machine_in_words(machine(args.device)),
        f"{workload.in_words()}, with branches\n",
        markdown_table(["part of a step", "ms", "share"], parts) + "\n",
        markdown_table(["what takes longest", "per step", "ms"], longest),
    ]
    print("\n".join(lines))
    return found.spent


if __name__ == "__main__":
    run(main)
