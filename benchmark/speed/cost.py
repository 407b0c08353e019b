"""What a training step costs in time and memory as T grows, for every training method.

    python -m benchmark.speed.cost                              resnet18, width 64, B 8, one core
    python -m benchmark.speed.cost --T 1 2 4 8 --methods esd esd_sparse bptt --output result
    python -m benchmark.speed.cost --device cuda --batch 128 --output docs/benchmark/gpu

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

from collections.abc import Sequence
from pathlib import Path

from benchmark.speed.command import Parser, command_line, run, whole_number, workload_of
from benchmark.speed.cost_report import Cost, CostReport
from benchmark.speed.harness import in_own_process, measure_steps, step_of
from benchmark.speed.measure import Rounds, machine
from benchmark.speed.workload import METHOD_VARIANTS, SPARSE, Workload
from model import METHODS

TIME_STEPS = (1, 2, 4, 6, 8, 10, 16, 32)


def cost_of(method: str, workload: Workload, rounds: Rounds) -> Cost:
    """What a step of a method costs; method: a key of METHOD_VARIANTS."""
    (found,) = measure_steps([step_of(METHOD_VARIANTS[method], workload)], rounds, by_stage=True)
    seconds, peaks = found.seconds, found.peaks
    backward_peak = max(peaks["backward"], peaks["update"])
    times = (seconds["step"], seconds["backward"])
    return Cost(
        method, workload.T, workload.batch, *times, found.kept, peaks["forward"], backward_peak
    )


def costs_of(method: str, workloads: Sequence[Workload], rounds: Rounds) -> list[Cost]:
    return [cost_of(method, workload, rounds) for workload in workloads]


def get_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_shared(arch="resnet18", width=None)
    add = parser.add_argument
    text = f"time steps (default: {' '.join(map(str, TIME_STEPS))})"
    add("--T", type=whole_number, nargs="+", default=TIME_STEPS, metavar="STEPS", help=text)
    names = list(METHOD_VARIANTS)
    text = f"any of {', '.join(names)} (default: all without {SPARSE})"
    add("--methods", nargs="+", choices=names, default=list(METHODS), metavar="NAME", help=text)
    parser.add_shared(batch=8, size=32, in_channels=3, num_classes=10, repeats=3, warmup=1)
    parser.add_shared(threads=1, device="cpu")
    text = "folder for cost.md, cost.json and cost.png (default: %(default)s)"
    parser.add_output(text, Path("benchmark-result"))
    return parser


def main(argv: list[str] | None = None) -> list[Cost]:
    parser = get_parser()
    args = parser.parse_args(argv)
    parser.make_folder(args.output)
    workloads = [workload_of(args, T) for T in sorted(set(args.T))]
    rounds, rows = Rounds(args.repeats, args.warmup), []
    for method in args.methods:
        own = in_own_process(args.threads, costs_of, method, workloads, rounds)
        print(f"{method}: {', '.join(f'T {row.T} {row.seconds:.3f} s' for row in own)}")
        rows += own
    conditions = machine(args.device) | {"threads": args.threads, "arch": args.arch}
    conditions |= {} if args.width is None else {"width": args.width}
    report = CostReport(rows, conditions, command_line("cost", argv))
    print(report.markdown())
    parser.write(args.output, report.files())
    return rows


if __name__ == "__main__":
    run(main)
