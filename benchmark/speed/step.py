"""Time and memory of one training step: this project's, the published way, BPTT, and the floor.

    python -m benchmark.speed.step                                  resnet18, T 4, B 16, one core
    python -m benchmark.speed.step --compile --T 6 --repeats 15
    python -m benchmark.speed.step --sweep 1 2 4 6 8 --output docs/benchmark

A step is forward, loss, backward and SGD on one random batch. All contestants of a T run in one
process, in turn, and medians are compared, so ratios are trustworthy where seconds are not. The
floor is the network's convolutions alone, with branches those of the branches too (`floor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmark.speed.command import Parser, command_line, run, whole_number, workload_of
from benchmark.speed.floor import ConvolutionFloor
from benchmark.speed.harness import in_own_process, measure_steps, step_of
from benchmark.speed.measure import Rounds, machine
from benchmark.speed.step_report import StepReport, StepRow
from benchmark.speed.workload import VARIANTS, Workload, variants_for

CONTESTANTS = ("two_stage", "bptt", "one_pass", "one_pass_sparse", "floor")
SWEEP_OUTPUT = Path("benchmark-result")
BRANCHES = {"both": (False, True), "with": (True,), "without": (False,)}


def get_parser() -> Parser:
    parser = Parser(__doc__)
    parser.add_shared(arch="resnet18", T=4)
    add = parser.add_argument
    text = "measure each of these T in place of --T"
    add("--sweep", type=whole_number, nargs="+", metavar="T", help=text)
    text = "also write step.md, step.json and step.png there (default: "
    text += f"{SWEEP_OUTPUT} with --sweep, else nowhere)"
    parser.add_output(text)
    parser.add_shared(batch=16, size=32, in_channels=3, num_classes=10, width=None)
    text = "with ANN branches and distillation, without, or both (default: %(default)s)"
    add("--branches", choices=BRANCHES, default="both", help=text)
    text = f"any of {', '.join(VARIANTS)}; default: {' '.join(CONTESTANTS)}"
    add("--contestants", nargs="+", choices=VARIANTS, metavar="NAME", help=text)
    text = "add one_pass_compiled: elementwise parts through torch.compile"
    add("--compile", action="store_true", help=text)
    parser.add_shared(repeats=7, warmup=2, threads=1, device="cpu")
    return parser


def measured_rows(names: Sequence[str], workload: Workload, rounds: Rounds) -> list[StepRow]:
    """One row per contestant, all measured in turn; how fast a floor is goes to a printed line."""
    w, rows = workload, []
    steps = [step_of(VARIANTS[name], workload) for name in names]
    for name, step, found in zip(names, steps, measure_steps(steps, rounds), strict=True):
        seconds, peak = found.seconds["step"], max(found.peaks.values()) / w.batch
        kept = None if found.kept is None else found.kept / w.batch
        if isinstance(step, ConvolutionFloor):
            print(f"{name} at T = {w.T}: {step.speed(seconds)}")
        text = VARIANTS[name].text
        row = (name, text, w.branches, w.T, w.batch, seconds, kept, peak, found.firing)
        rows.append(StepRow(*row))
    return rows


def main(argv: list[str] | None = None) -> list[StepRow]:
    parser = get_parser()
    args = parser.parse_args(argv)
    names = [*(args.contestants or CONTESTANTS), *["one_pass_compiled"] * args.compile]
    names = variants_for(args.arch, list(dict.fromkeys(names)), args.device)
    output = args.output or (SWEEP_OUTPUT if args.sweep else None)
    parser.make_folder(output)
    rounds, rows = Rounds(args.repeats, args.warmup), []
    for branches in BRANCHES[args.branches]:
        for T in args.sweep or [args.T]:
            workload = workload_of(args, T, branches=branches)
            rows += in_own_process(args.threads, measured_rows, names, workload, rounds)
    conditions = machine(args.device) | {"threads": args.threads}
    report = StepReport(rows, conditions, command_line("step", argv))
    print(report.markdown())
    parser.write(output, report.files())
    return rows


if __name__ == "__main__":
    run(main)
