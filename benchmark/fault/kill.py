"""Runs that are killed, asked to stop, robbed of their folder, or started all at once.

Each trial returns None if the promise held, otherwise what was found instead.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmark.fault import micro_run
from benchmark.fault.process import Child, disturbed, run_and_count, run_and_die_in_save, start
from util.checkpoint_history import NEWEST

Finding = str | None


class Unbroken(NamedTuple):
    """A run that nothing disturbed: its arguments, outcome, seconds and system calls in saves."""

    argv: Sequence[str]
    outcome: dict[str, str]
    seconds: float
    calls: int

    def command(self, log_path: Path, *more: str) -> Sequence[str]:
        return [*self.argv, "--log_path", str(log_path), "--resume", "auto", *more]


def unbroken_run(work: Path, argv: Sequence[str]) -> Unbroken:
    """Train once without disturbance, counting what its saves ask of the system."""
    log_path = new_folder(work, "unbroken")
    run = Unbroken(argv, {}, 0.0, 0)
    main = partial(micro_run.main, run.command(log_path))
    begun = time.monotonic()
    child = start(partial(run_and_count, main, log_path / "calls"), log_path / "output")
    if child.wait() != 0:
        raise RuntimeError(f"the undisturbed run failed: {child.text()}")
    seconds = time.monotonic() - begun
    (folder,) = micro_run.run_folders(log_path)
    calls = int((log_path / "calls").read_text())
    return run._replace(outcome=micro_run.outcome(folder), seconds=seconds, calls=calls)


def kill_at_random(work: Path, unbroken: Unbroken, choose: random.Random) -> Finding:
    """kill -9 of the whole group at any moment; with and without data-loading processes."""
    workers = choose.choice(("0", "0", "0", "2"))

    def begin() -> Child:
        log_path = new_folder(work, "kill")
        command = unbroken.command(log_path, "--num_workers", workers)
        return start(partial(micro_run.main, command), log_path / "output")

    child, code = disturbed(
        begin, lambda own: own.send(signal.SIGKILL), longest=unbroken.seconds, choose=choose
    )
    if code != -signal.SIGKILL:
        return f"exit code {code}: {child.text()}"
    return finding_after_resume(child.log_path, unbroken)


def kill_in_save(work: Path, unbroken: Unbroken, choose: random.Random) -> Finding:
    """kill -9 at a system call of a save, before it, after it, or half-way through a write."""
    log_path = new_folder(work, "kill")
    main = partial(micro_run.main, unbroken.command(log_path))
    fatal, after = choose.randrange(unbroken.calls), choose.random() < 0.5
    child = start(partial(run_and_die_in_save, main, fatal, after=after), log_path / "output")
    code = child.wait()
    if code != -signal.SIGKILL:
        return f"call {fatal} was not reached (exit code {code})"
    return finding_after_resume(log_path, unbroken)


def stop_by_signal(
    work: Path, unbroken: Unbroken, choose: random.Random, number: signal.Signals
) -> Finding:
    """One signal to the whole group: saved, an exit code that says so, identical after resuming."""
    workers = choose.choice((("0", "2"), ("2", "0"), ("0", "0")))
    child, code = disturbed(
        lambda: started_training(new_folder(work, "signal"), unbroken, "--num_workers", workers[0]),
        lambda own: own.send(number), longest=unbroken.seconds, choose=choose,
    )  # fmt: skip
    (folder,) = micro_run.run_folders(child.log_path)
    finished = code == -number and "finished: " in child.text()  # and was leaving
    if not finished and (code != 128 + number or not (folder / NEWEST).exists()):
        return f"{number.name}: exit code {code}; {child.text()}"
    return finding_after_resume(child.log_path, unbroken, "--num_workers", workers[1])


def stop_by_two_signals(
    work: Path, unbroken: Unbroken, choose: random.Random, number: signal.Signals
) -> Finding:
    """A second signal right after the first: over at once, and still nothing lost."""
    pause = choose.uniform(0, 0.02)

    def send_twice(child: Child) -> None:
        child.send(number)
        time.sleep(pause)
        child.send(number)

    child, code = disturbed(
        lambda: started_training(new_folder(work, "signals"), unbroken), send_twice,
        longest=unbroken.seconds / 3, choose=choose,
    )  # fmt: skip
    if code not in (130, 128 + number, -number):  # it had saved, or left, when the second one came
        return f"twice {number.name}: exit code {code}; {child.text()}"
    return finding_after_resume(child.log_path, unbroken)


def delete_folder(work: Path, unbroken: Unbroken, choose: random.Random) -> Finding:
    """The run folder is moved away or deleted: one sentence that names it, exit code 1."""
    moved = choose.random() < 0.5
    folders: list[Path] = []

    def delete(child: Child) -> None:
        (folder,) = micro_run.run_folders(child.log_path)
        folders.append(folder)
        if moved:
            folder.rename(child.log_path / "away")
            return
        while folder.exists():  # file by file, while the run makes new ones
            shutil.rmtree(folder, ignore_errors=True)

    child, code = disturbed(
        lambda: started_training(new_folder(work, "deleted"), unbroken), delete,
        longest=unbroken.seconds / 3, choose=choose,
    )  # fmt: skip
    text = child.text()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    if code != 1 or "Traceback" in text or len(errors) != 1 or str(folders[-1]) not in errors[0]:
        return f"exit code {code}: {text}"
    return None


def start_together(work: Path, unbroken: Unbroken, count: int) -> list[Finding]:
    """`count` new runs with the same arguments at one moment: a folder for each."""
    log_path = new_folder(work, "together")
    command = [*unbroken.argv, "--log_path", str(log_path)]
    children = released_together(command, log_path, count)
    findings = [ending(child, 0) for child in children]
    folders = micro_run.run_folders(log_path)
    if len(folders) != count:
        return [f"{len(folders)} folders for {count} runs"] * count
    for number, folder in enumerate(folders):
        findings[number] = findings[number] or difference(folder, unbroken)
    return findings


def resume_together(work: Path, unbroken: Unbroken, count: int) -> list[Finding]:
    """`count` times --resume auto of one unfinished run: one goes on, the others are refused."""
    log_path = new_folder(work, "resumed-together")
    child = started_training(log_path, unbroken)
    child.wait_for("epoch 0")
    child.send(signal.SIGTERM)
    child.wait()
    children = released_together(unbroken.command(log_path), log_path, count)
    codes = [child.wait() for child in children]
    findings: list[Finding] = []
    for child, code in zip(children, codes, strict=True):
        refused = code == 2 and "another process is training in" in child.text()
        findings.append(None if refused or code == 0 else f"exit code {code}: {child.text()}")
    (folder,) = micro_run.run_folders(log_path)
    findings[0] = findings[0] or difference(folder, unbroken)
    return findings


def released_together(command: Sequence[str], log_path: Path, count: int) -> list[Child]:
    """Children that wait for one another before they begin."""
    gate, opener = os.pipe()

    def wait_and_run() -> None:
        os.close(opener)
        os.read(gate, 1)  # returns when the parent closes its end
        micro_run.main(command)

    children = [start(wait_and_run, log_path / f"output-{number}") for number in range(count)]
    os.close(opener)
    os.close(gate)
    return children


def started_training(log_path: Path, unbroken: Unbroken, *more: str) -> Child:
    """A child whose run folder is there."""
    main = partial(micro_run.main, unbroken.command(log_path, *more))
    child = start(main, log_path / "output")
    child.wait_for("run folder")
    return child


def finding_after_resume(log_path: Path, unbroken: Unbroken, *more: str) -> Finding:
    """Give the same command again; then nothing may differ from the unbroken run."""
    main = partial(micro_run.main, unbroken.command(log_path, *more))
    child = start(main, log_path / "output-again")
    problem = ending(child, 0)
    if problem is not None:
        return problem
    folders = micro_run.run_folders(log_path)
    if len(folders) != 1:
        return f"{len(folders)} run folders"
    return difference(folders[0], unbroken)


def ending(child: Child, expected: int) -> Finding:
    """Wait; what was wrong about the end."""
    code = child.wait()
    return None if code == expected else f"exit code {code}: {child.text()}"


def difference(folder: Path, unbroken: Unbroken) -> Finding:
    """In what a finished run differs from the unbroken one."""
    left = [path.name for path in folder.glob("*.tmp")]
    if left:
        return f"{folder} still has {left}"
    outcome = micro_run.outcome(folder)
    wrong = [name for name, value in unbroken.outcome.items() if outcome[name] != value]
    return f"{folder}: {', '.join(wrong)} differ" if wrong else None


def new_folder(work: Path, name: str) -> Path:
    """The next free folder of this name."""
    number = len(list(work.glob(f"{name}-*")))
    folder = work / f"{name}-{number}"
    folder.mkdir()
    return folder
