"""Compare training methods, teachers, architectures and time steps on one data set.

    python benchmark/compare.py --plan benchmark/plan/digits_methods.toml \\
        --output runs/comparison/digits_methods
    python benchmark/compare.py --plan PLAN --output FOLDER --jobs 2

A plan (benchmark/comparison/plan.py says how it is written) is a table of runs, each repeated with
several seeds. Writes FOLDER/results.md, results.json and results.png after every finished run.
What was done is not done again: stopped in the middle (Ctrl-C: exit status 130), the same command
goes on where it was, to the bit. A run that fails is named in the table, the others go on, and the
exit status is 1.

With --jobs above 1 the runs share the processor: accuracies do not change, times do.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from any folder; and `profile.py` must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmark.command import Parser, run, whole_number
from benchmark.comparison.job import jobs_of, perform
from benchmark.comparison.plan import Plan, read_plan
from benchmark.comparison.report import write_results
from benchmark.comparison.summary import summarise
from benchmark.measure import machine


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--plan", type=Path, required=True, metavar="FILE", help="TOML file with the runs")
    add("--output", type=Path, default=Path("comparison"), metavar="FOLDER",
        help="for the runs and the results (default: %(default)s)")  # fmt: skip
    add("--jobs", type=whole_number, default=1, metavar="N",
        help="runs at the same time (default: %(default)s)")  # fmt: skip
    add("--threads", type=whole_number, default=1, metavar="N",
        help="CPU threads of each run (default: %(default)s)")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the plan; returns the rows of the table.

    Raises: SystemExit with code 2 for a wrong plan, 1 if a run failed, 130 for Ctrl-C.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        plan = read_plan(args.plan)
        args.output.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    command = shlex.join(
        ["python", "benchmark/compare.py", *(sys.argv[1:] if argv is None else argv)]
    )
    heading = {
        "title": args.plan.stem,
        "command": command,
        "machine": _machine(),
        "jobs": args.jobs,
        "threads": args.threads,
        "shared": shlex.join(_shared_flags(plan)),
    }
    jobs, problems = jobs_of(plan, args.output / "runs"), {}
    with ThreadPoolExecutor(args.jobs) as pool, ended_by_interrupt(pool):
        futures = {pool.submit(perform, job, threads=args.threads): job for job in jobs}
        for number, future in enumerate(as_completed(futures), 1):
            job, problem = futures[future], future.result()
            if problem is not None:
                problems[job.row.name, job.seed] = problem
            print(f"{number}/{len(jobs)} {job.row.name}, seed {job.seed}: "
                  f"{'failed: ' + problem if problem else 'done'}", flush=True)  # fmt: skip
            entries = summarise(jobs, problems)
            written = write_results(args.output, entries, heading, plan.seeds)
    print(written[0].read_text())
    if problems:
        raise SystemExit(1)
    return entries


@contextmanager
def ended_by_interrupt(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Ctrl-C begins no further run and ends the program, exit code 130, when those in progress end.

    They do so by themselves: the terminal sends them the signal too.
    """
    try:
        yield
    except KeyboardInterrupt:
        sentence = "stopped: the runs in progress save themselves; the same command goes on"
        print(sentence, file=sys.stderr)
        pool.shutdown(cancel_futures=True)
        raise SystemExit(130) from None


def _machine() -> dict[str, Any]:
    """What the table says about where it was made; the load is the runs' own."""
    found = machine("cuda" if torch.cuda.is_available() else "cpu")
    return {key: value for key, value in found.items() if key not in ("threads", "load average")}


def _shared_flags(plan: Plan) -> list[str]:
    """What all rows have in common, as they would be given to the main."""
    pairs = [dict(_pairs(row.flags)) for row in plan.rows]
    common = [
        (name, value)
        for name, value in pairs[0].items()
        if all(p.get(name) == value for p in pairs)
    ]
    return [part for name, value in common for part in (name, *value)]


def _pairs(flags: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    """(flag, its values) in order."""
    grouped: list[tuple[str, tuple[str, ...]]] = []
    for part in flags:
        if part.startswith("--"):
            grouped.append((part, ()))
        else:
            grouped[-1] = (grouped[-1][0], (*grouped[-1][1], part))
    return grouped


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    run(main)
