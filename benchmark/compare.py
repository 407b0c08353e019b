"""Compare training methods, teachers, architectures and time steps on one data set.

    python benchmark/compare.py --plan benchmark/plan/digits_methods.toml \\
        --output runs/comparison/digits_methods
    python benchmark/compare.py --plan PLAN --output FOLDER --jobs 2
    python benchmark/compare.py --plan PLAN --output FOLDER --minutes 6

A plan (benchmark/comparison/plan.py says how it is written) is a table of runs, each repeated with
several seeds. Writes FOLDER/results.md, results.json and results.png after every finished run.
What was done is not done again: stopped in the middle (Ctrl-C: exit status 130), the same command
goes on where it was, to the bit. A run that fails is named in the table, the others go on, and the
exit status is 1.

With --minutes it ends by itself, after whole seeds: a further seed is begun only if it fits by what
the slowest took so far, what still runs at the limit is stopped as by Ctrl-C (saving may take some
seconds more), and the results say how many of the planned seeds they hold. The exit status is 0, or
3 if not even the first seed was over; the table, marked as incomplete, then holds what was.

With --jobs above 1 the runs share the processor: accuracies do not change, times do.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # from any folder; and `profile.py` must not hide the standard library's
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmark.command import Parser, run, whole_number
from benchmark.comparison.job import Job, jobs_of, perform
from benchmark.comparison.limit import OutOfTime, TimeLimit, note_on_seeds
from benchmark.comparison.plan import Plan, read_plan
from benchmark.comparison.report import write_results
from benchmark.comparison.summary import summarise, whole_seeds
from benchmark.measure import machine
from experiment.flag_parser import expanded_path, number

NO_WHOLE_SEED = 3  # exit code


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--plan", type=expanded_path, required=True, metavar="FILE", help="TOML file with the runs")
    add("--output", type=expanded_path, default=Path("comparison"), metavar="FOLDER",
        help="for the runs and the results (default: %(default)s)")  # fmt: skip
    add("--jobs", type=whole_number, default=1, metavar="N",
        help="runs at the same time (default: %(default)s)")  # fmt: skip
    add("--threads", type=whole_number, default=1, metavar="N",
        help="CPU threads of each run (default: %(default)s)")  # fmt: skip
    add("--minutes", type=number(float, 0, 1e4, open_low=True), default=None, metavar="M",
        help="end after so many, with the results of whole seeds (default: no limit)")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the plan; returns the rows of the table.

    Raises: SystemExit with code 2 for a wrong plan, 1 if a run failed, 3 if --minutes were over
    before the first seed was, 130 for Ctrl-C.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        plan = read_plan(args.plan)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    parser.make_folder(args.output)
    heading = _heading(plan, args, sys.argv[1:] if argv is None else argv)
    jobs, problems = jobs_of(plan, args.output / "runs"), {}
    limit = TimeLimit(args.minutes, [job.seed for job in jobs if job.run_folder() is None])
    # Under a limit no further seed begins before a run has ended, and says how long one takes.
    workers = args.jobs if args.minutes is None else min(args.jobs, len(plan.rows))
    with ThreadPoolExecutor(workers) as pool, ended_by_interrupt(pool):
        futures = {
            pool.submit(perform, job, threads=args.threads, limit=limit): job for job in jobs
        }
        for count, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            end = how_it_ended(future, (job.row.name, job.seed), problems)
            print(f"{count}/{len(jobs)} {job.row.name}, seed {job.seed}: {end}", flush=True)
            entries = write_table(args.output, heading, jobs, problems, minutes=args.minutes)
    print((args.output / "results.md").read_text(encoding="utf-8"))
    if problems:
        raise SystemExit(1)
    if not whole_seeds(jobs, problems):
        raise SystemExit(NO_WHOLE_SEED)
    return entries


def how_it_ended(future: Future, run: tuple[str, int], problems: dict[tuple[str, int], str]) -> str:
    """In words; adds the reason to `problems` if the run failed."""
    try:
        problem = future.result()
    except OutOfTime as error:
        return str(error)
    if problem is None:
        return "done"
    problems[run] = problem
    return f"failed: {problem}"


def write_table(
    output: Path,
    heading: dict[str, Any],
    jobs: Sequence[Job],
    problems: dict[tuple[str, int], str],
    *,
    minutes: float | None,
) -> list[dict[str, Any]]:
    """Write the results so far, under a limit those of whole seeds; returns the table's rows."""
    planned = list(dict.fromkeys(job.seed for job in jobs))
    seeds, note = planned, None
    if minutes is not None:
        whole = whole_seeds(jobs, problems)
        seeds, note = whole or planned, note_on_seeds(minutes, planned, whole)
    entries = summarise([job for job in jobs if job.seed in seeds], problems)
    write_results(output, entries, {**heading, "note": note}, seeds)
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


def _heading(plan: Plan, args: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    """What the table says beside its numbers."""
    return {
        "title": args.plan.stem,
        "command": shlex.join(["python", "benchmark/compare.py", *argv]),
        "machine": _machine(),
        "jobs": args.jobs,
        "threads": args.threads,
        "shared": shlex.join(_shared_flags(plan)),
    }


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
