"""Compare training methods, teachers, architectures and time steps on one data set.

    python -m benchmark.comparison.compare --plan benchmark/plan/digits_methods.toml \\
        --output runs/comparison/digits_methods
    python -m benchmark.comparison.compare --plan PLAN --output FOLDER --jobs 2
    python -m benchmark.comparison.compare --plan PLAN --output FOLDER --minutes 6

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

With --known the runs of an earlier results.json, of this or another machine, count as done: those
of the same row, flags and seed enter the tables as they are. With --seeds this call runs only some
of the plan's seeds.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmark.comparison.contrast import judge
from benchmark.comparison.job import Job, jobs_of, perform
from benchmark.comparison.known import read_known, with_known
from benchmark.comparison.limit import OutOfTime, TimeLimit, note_on_choice, note_on_seeds
from benchmark.comparison.plan import ComparisonPlan, Row, read_plan, words_of
from benchmark.comparison.question import Question
from benchmark.comparison.report import write_results
from benchmark.comparison.summary import Entry, Problems, summarise, whole_seeds
from benchmark.speed.command import Parser, run, whole_number
from benchmark.speed.measure import machine
from experiment.flag.kinds import Real, expanded_path

NO_WHOLE_SEED = 3  # exit code
MINUTES = Real(0, 1e4, open_low=True)


def get_parser() -> Parser:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--plan", type=expanded_path, required=True, metavar="FILE", help="TOML file with the runs")
    into = "for the runs and the results (default: %(default)s)"
    add("--output", type=expanded_path, default=Path("comparison"), metavar="FOLDER", help=into)
    runs = "runs at the same time (default: %(default)s)"
    add("--jobs", type=whole_number, default=1, metavar="N", help=runs)
    threads = "CPU threads of each run (default: %(default)s)"
    add("--threads", type=whole_number, default=1, metavar="N", help=threads)
    limit = "end after so many, with the results of whole seeds (default: no limit)"
    add("--minutes", type=MINUTES, default=None, metavar="M", help=limit)
    done = "results.json whose runs are not repeated; of several the first counts"
    add("--known", type=expanded_path, nargs="+", default=[], metavar="FILE", help=done)
    some = "seeds of the plan to run (default: all)"
    add("--seeds", type=int, nargs="+", default=None, metavar="SEED", help=some)
    return parser


def main(argv: Sequence[str] | None = None) -> list[Entry]:
    """Run the plan; returns the rows of the table.

    Raises: SystemExit with code 2 for a wrong plan, 1 if a run failed, 3 if --minutes were over
    before the first seed was, 130 for Ctrl-C.
    """
    parser = get_parser()
    args = parser.parse_args(argv)
    try:
        plan = read_plan(args.plan)
        chosen = _chosen_seeds(plan, args.seeds)
        known = [(path, read_known(path)) for path in args.known]
    except (OSError, ValueError) as error:
        parser.error(str(error))
    parser.make_folder(args.output)
    heading = _heading(plan, args, sys.argv[1:] if argv is None else argv)
    jobs = jobs_of(plan, args.output / "runs")
    for path, runs in known:
        jobs, others = with_known(jobs, runs)
        if others is not None:
            print(f"{path}: not of a row and seed of this plan with the same flags: {others}")
    comparison = Comparison(args.output, heading, jobs, plan.question, chosen, args.minutes)
    asked = [job for job in jobs if job.seed in chosen]
    limit = TimeLimit(args.minutes, [job.seed for job in asked if not job.is_complete()])
    # Under a limit no further seed begins before a run has ended, and says how long one takes.
    workers = args.jobs if args.minutes is None else min(args.jobs, len(plan.rows))
    with ThreadPoolExecutor(workers) as pool, ended_by_interrupt(pool):
        begun = {pool.submit(perform, job, threads=args.threads, limit=limit): job for job in asked}
        for count, future in enumerate(as_completed(begun), 1):
            job = begun[future]
            end = comparison.how_it_ended(job, future)
            print(f"{count}/{len(asked)} {job.row.name}, seed {job.seed}: {end}", flush=True)
            entries = comparison.write()
    print((args.output / "results.md").read_text(encoding="utf-8"))
    if comparison.problems:
        raise SystemExit(1)
    if not whole_seeds(jobs, comparison.problems):
        raise SystemExit(NO_WHOLE_SEED)
    return entries


@dataclass
class Comparison:
    """The runs of a plan and what was found so far.

    chosen: the seeds that this call runs; problems: why a run failed, by its key.
    """

    output: Path
    heading: dict[str, Any]
    jobs: Sequence[Job]
    question: Question | None
    chosen: Sequence[int]
    minutes: float | None
    problems: Problems = field(default_factory=dict)

    def how_it_ended(self, job: Job, future: Future) -> str:
        """In words; notes the reason if the run failed."""
        try:
            problem = future.result()
        except OutOfTime as error:
            return str(error)
        if problem is None:
            return "done"
        self.problems[job.key] = problem
        return f"failed: {problem}"

    def write(self) -> list[Entry]:
        """Write the results so far, under a limit those of whole seeds; returns the rows."""
        planned = list(dict.fromkeys(job.seed for job in self.jobs))
        whole = whole_seeds(self.jobs, self.problems)
        seeds = wanted = [seed for seed in planned if seed in self.chosen or seed in whole]
        notes = [note_on_choice(planned, wanted)]
        if self.minutes is not None:
            seeds = whole or wanted
            notes.append(note_on_seeds(self.minutes, wanted, whole))
        entries = summarise(self.jobs, self.problems, seeds)
        found = {
            "note": " ".join(filter(None, notes)) or None,
            "seeds": seeds,
            "contrasts": judge(self.question, entries, len(planned)),
        }
        write_results(self.output, entries, {**self.heading, **found})
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


def _chosen_seeds(plan: ComparisonPlan, given: Sequence[int] | None) -> Sequence[int]:
    """The seeds to run. Raises: ValueError for one that the plan has not."""
    for seed in given or ():
        if seed not in plan.seeds:
            expected = ", ".join(map(str, plan.seeds))
            raise ValueError(f"--seeds: {seed} is no seed of the plan, expected of {expected}")
    return plan.seeds if given is None else given


def _heading(plan: ComparisonPlan, args: argparse.Namespace, argv: Sequence[str]) -> dict[str, Any]:
    found = machine("cuda" if torch.cuda.is_available() else "cpu")
    first, *others = (row.values for row in plan.rows)
    common = {k: v for k, v in first.items() if all(other.get(k) == v for other in others)}
    return {
        "title": args.plan.stem,
        "command": shlex.join(["python", "-m", "benchmark.comparison.compare", *argv]),
        # The number of threads and the load are the runs' own.
        "machine": {k: v for k, v in found.items() if k not in ("threads", "load average")},
        "jobs": args.jobs,
        "threads": args.threads,
        "shared": shlex.join(words_of(common)),
        "own": {row.name: _other_flags(row, common) for row in plan.rows},
    }


def _other_flags(row: Row, common: dict[str, Any]) -> str:
    """The flags that not all rows have."""
    return shlex.join(words_of({k: v for k, v in row.values.items() if k not in common}))


if __name__ == "__main__":
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    run(main)
