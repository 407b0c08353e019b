"""Time and memory of one training step: this project's, the published way, BPTT, and the floor.

    python benchmark/step.py                                  resnet18, T 4, B 16, one core
    python benchmark/step.py --compile --T 6 --repeats 15
    python benchmark/step.py --sweep 1 2 4 6 8 --output docs/benchmark

A step is forward, loss, backward and SGD on one random batch. All contestants of a T run in one
process, in turn, and medians are compared, so ratios are trustworthy where seconds are not. The
floor is the network's convolutions alone, with branches those of the branches too (`floor.py`).
"""

from __future__ import annotations

import multiprocessing
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

if __name__ == "__main__":  # from any folder; and `profile.py` must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmark.command import Parser, device, run, whole_number
from benchmark.contestant import VARIANTS, Contestant, Workload, contestants_for
from benchmark.measure import interleaved_seconds, machine, median, peak_bytes, saved_bytes
from benchmark.report import Row, markdown, report_files
from experiment.flag_parser import expanded_path
from model import MODELS

DEFAULT_CONTESTANTS = ("two_stage", "bptt", "one_pass", "one_pass_sparse", "floor")
SWEEP_OUTPUT = Path("benchmark-result")
BRANCHES = {"both": (False, True), "with": (True,), "without": (False,)}


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--arch", choices=MODELS, default="resnet18", help="network (default: %(default)s)")
    add("--T", type=whole_number, default=4, help="time steps (default: %(default)s)")
    add("--sweep", type=whole_number, nargs="+", metavar="T", default=None,
        help="measure each of these T in place of --T")  # fmt: skip
    add("--output", type=expanded_path, default=None, metavar="FOLDER",
        help="also write step.md, step.json and step.png there "
        f"(default: {SWEEP_OUTPUT} with --sweep, else nowhere)")  # fmt: skip
    add("--batch", type=whole_number, default=16, help="samples B (default: %(default)s)")
    add("--size", type=whole_number, default=32, help="pixels per side (default: %(default)s)")
    add("--in_channels", type=whole_number, default=3, help="input channels (default: %(default)s)")
    add("--num_classes", type=whole_number, default=10, help="classes K (default: %(default)s)")
    add("--width", type=whole_number, default=None,
        help="channels of the first stage (default: the paper's)")  # fmt: skip
    add(
        "--branches",
        choices=BRANCHES,
        default="both",
        help="with ANN branches and distillation, without, or both; default: %(default)s",
    )
    add(
        "--contestants",
        nargs="+",
        choices=VARIANTS,
        default=None,
        metavar="NAME",
        help=f"any of {', '.join(VARIANTS)}; default: {' '.join(DEFAULT_CONTESTANTS)}",
    )
    add("--compile", action="store_true",
        help="add one_pass_compiled: elementwise parts through torch.compile")  # fmt: skip
    add("--repeats", type=whole_number, default=7, help="timed rounds (default: %(default)s)")
    add("--warmup", type=whole_number, default=2, help="untimed rounds (default: %(default)s)")
    add("--threads", type=whole_number, default=1, help="CPU threads (default: %(default)s)")
    add("--device", type=device, default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser


def measure(names: list[str], workload: Workload, *, repeats: int, warmup: int) -> list[Row]:
    """One row per contestant, all measured in turn."""
    contestants = {name: Contestant(VARIANTS[name], workload) for name in names}
    steps = [contestant.step for contestant in contestants.values()]
    seconds = interleaved_seconds(steps, repeats=repeats, warmup=warmup, device=workload.device)
    rows = []
    for (name, contestant), own in zip(contestants.items(), seconds, strict=True):
        saved = None
        if contestant.forward is not None:
            saved = saved_bytes(contestant.forward, contestant.parameters) / workload.batch
        if contestant.optimizer is not None:
            contestant.optimizer.zero_grad(set_to_none=True)  # else the step would free gradients
        peak = peak_bytes(contestant.step, workload.device) / workload.batch
        if contestant.work is not None:
            operations, moved = contestant.work
            print(
                f"{name} at T = {workload.T}: {2e-9 * operations:.1f} GFLOP "
                f"({2e-9 * operations / median(own):.0f} GFLOP/s), {moved / 2**20:.0f} MiB moved"
            )
        rows.append(
            Row(name, contestant.text, workload.branches, workload.T, workload.batch, median(own),
                saved, peak, contestant.firing_rate())
        )  # fmt: skip
    return rows


def measure_apart(
    names: list[str], workload: Workload, *, threads: int, repeats: int, warmup: int
) -> list[Row]:
    """`measure` in a process of its own, so that one workload leaves no memory to the next."""
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)
    ) as pool:
        return pool.submit(measure, names, workload, repeats=repeats, warmup=warmup).result()


def main(argv: list[str] | None = None) -> list[Row]:
    parser = get_parser()
    args = parser.parse_args(argv)
    names = list(args.contestants or DEFAULT_CONTESTANTS)
    if args.compile and "one_pass_compiled" not in names:
        names.append("one_pass_compiled")
    names = contestants_for(args.arch, names, args.device)
    output = args.output or (SWEEP_OUTPUT if args.sweep else None)
    parser.make_folder(output)
    torch.set_num_threads(args.threads)
    command = shlex.join(["python", "benchmark/step.py", *(sys.argv[1:] if argv is None else argv)])
    rows: list[Row] = []
    for branches in BRANCHES[args.branches]:
        for T in args.sweep or [args.T]:
            workload = Workload(
                args.arch, T, args.batch, branches, args.size, args.in_channels, args.num_classes,
                args.width, args.device,
            )  # fmt: skip
            rows += measure_apart(
                names, workload, threads=args.threads, repeats=args.repeats, warmup=args.warmup
            )
    conditions = machine(args.device)
    print(markdown(rows, conditions, command))
    if output is not None:
        parser.write(output, report_files(rows, conditions, command))
    return rows


if __name__ == "__main__":
    run(main)
