"""One run of a comparison: trained, evaluated, remembered; done once, however often it is asked.

OUTPUT/ROW/seed60/RUN FOLDER/      what the main writes, and evaluate/ (all time steps, heads)
OUTPUT/ROW/seed60/done.json        the flags and the run folder, once both are complete
OUTPUT/ROW/seed60/output.txt       what the programs printed
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.comparison.limit import OutOfTime, TimeLimit
from benchmark.comparison.plan import ROOT, ComparisonPlan, Row
from util.file.record import write_json

EVALUATE = ROOT / "experiment" / "trained" / "evaluate.py"
OUTPUT, EVALUATION = "output.txt", "evaluate"
PATIENCE = 60  # seconds in which a run that is asked to stop has to save itself


class Job(NamedTuple):
    """A row with one seed, and the folder that is its own.

    known: what an earlier call found (`known.with_known`), if one did.
    """

    row: Row
    seed: int
    main: Path
    folder: Path
    known: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.row.name, self.seed

    @property
    def flags(self) -> list[str]:
        return [*self.row.flags, "--seed", str(self.seed)]

    @property
    def experiment(self) -> str:
        return self.main.parent.name

    def is_complete(self) -> bool:
        return self.known is not None or self.run_folder() is not None

    def run_folder(self) -> Path | None:
        """The complete run of these flags, or None if there is none yet."""
        try:
            done = json.loads((self.folder / "done.json").read_bytes())
        except (OSError, ValueError):
            return None
        run = self.folder / done["run"]
        return run if done["flags"] == self.flags and run.is_dir() else None


def jobs_of(plan: ComparisonPlan, output: Path) -> list[Job]:
    """Every row with every seed, one seed of all rows before the next."""
    return [
        Job(row, seed, plan.main, output / row.name / f"seed{seed}")
        for seed in plan.seeds
        for row in plan.rows
    ]


def perform(job: Job, *, threads: int, limit: TimeLimit) -> str | None:
    """Train (or go on training) and evaluate, unless it is done; the reason if it failed.

    Raises: OutOfTime if the limit did not let it begin, or stopped it.
    """
    if job.is_complete():
        return None
    with limit.admitted(job.seed):
        job.folder.mkdir(parents=True, exist_ok=True)
        training = [job.main, *job.flags, "--log_path", job.folder, "--resume", "auto"]
        problem = _call(training, job.folder, threads, limit)
        if problem is not None:
            return problem
        run = job.folder / _reported_folder(job.folder / OUTPUT)
        evaluation = [EVALUATE, run / "last.pt", "--out", run / EVALUATION]
        problem = _call(evaluation, job.folder, threads, limit)
        if problem is None:
            write_json(job.folder / "done.json", {"flags": job.flags, "run": run.name})
        return problem


def _reported_folder(output: Path) -> str:
    """Name of the run folder in which the newest training says that it was.

    The files do not tell: a finished run that is resumed writes no checkpoint.
    """
    printed = output.read_text(encoding="utf-8", errors="replace")
    folders = re.findall(r"^run folder (.+); device ", printed, re.M)
    return Path(folders[-1]).name


def _call(command: list, folder: Path, threads: int, limit: TimeLimit) -> str | None:
    """Run a Python program to its end; if it failed, how it ended and its last line of errors.

    Raises: OutOfTime if it had to be stopped.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, *map(str, command)]
    with (folder / OUTPUT).open("a", encoding="utf-8") as output:
        streams = {"stdout": output, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
        program = subprocess.Popen(command, env=environment, **streams)
        errors = _errors_in_time(program, limit.seconds_left())
        stopped = errors is None
        if stopped:
            program.terminate()
            errors = _errors_in_time(program, PATIENCE)
        if errors is None:
            program.kill()
            errors = program.communicate()[1]
        output.write(errors)
    code = program.returncode
    if code == 0:
        return None
    if stopped:
        raise OutOfTime("stopped at the limit; the same command goes on")
    end = f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
    return ": ".join([end, *errors.strip().splitlines()[-1:]])


def _errors_in_time(program: subprocess.Popen, seconds: float | None) -> str | None:
    """What a program printed to stderr; None if it still runs after so long."""
    try:
        return program.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        return None
