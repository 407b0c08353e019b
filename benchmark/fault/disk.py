"""Full or read-only disks and little shared memory: file systems in a namespace of their own.

Run as a module inside such a namespace it prints one finding per trial as JSON (`trials`); the
function `disk_trials` starts that, where the system lets users make namespaces.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from benchmark.fault import micro_run
from benchmark.fault.kill import Finding, Unbroken, difference, finding_after_resume, new_folder
from benchmark.fault.loading import WORKERS, sentence_missing
from benchmark.fault.process import start
from experiment.failure import SHARED_MEMORY
from util.checkpoint import CheckpointError, load_checkpoint
from util.checkpoint_history import BEST, list_checkpoints

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")


def disk_trials(
    work: Path, unbroken: Unbroken, sizes: Sequence[int], shared_sizes: Sequence[int]
) -> dict[str, list[Finding]]:
    """Findings of `full` and `shared memory` (one per size in KiB) and `read-only`.

    Empty without namespaces.
    """
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0:
        return {}
    request = json.dumps([str(work), unbroken._asdict(), list(sizes), list(shared_sizes)])
    command = [*NAMESPACE, sys.executable, "-m", "benchmark.fault.disk", request]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"the disk trials failed: {result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


@contextmanager
def memory_disk(folder: Path, kibibytes: int) -> Iterator[None]:
    """A file system of this size at `folder`."""
    options = f"size={kibibytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disk(work: Path, unbroken: Unbroken, kibibytes: int) -> Finding:
    """The disk fills up: one sentence with path and bytes; what was saved goes on elsewhere."""
    full, elsewhere = new_folder(work, "full"), work / f"rescued-{kibibytes}"
    output = work / f"output-{kibibytes}"
    with memory_disk(full, kibibytes):
        code = start(partial(micro_run.main, unbroken.command(full)), output).wait()
        shutil.copytree(full, elsewhere)
    text = output.read_text(encoding="utf-8")
    if code == 0:
        return f"a disk of {kibibytes} KiB did not fill up: choose a smaller one"
    if code not in (1, 2) or "Traceback" in text or "No space left" not in text.splitlines()[-1]:
        return f"exit code {code}: {text}"
    for folder in micro_run.run_folders(elsewhere):
        best = folder / BEST
        for path in list_checkpoints(folder) + ([best] if best.exists() else []):
            try:
                load_checkpoint(path)
            except CheckpointError as error:
                return str(error)
    return finding_after_resume(elsewhere, unbroken)


def forbid_writing(work: Path, unbroken: Unbroken, *, resume: bool) -> Finding:
    """A read-only disk: refused in one sentence, with and without a run to resume on it."""
    folder, output = new_folder(work, "read-only"), work / f"output-read-only-{resume}"
    with memory_disk(folder, 8192):
        if resume:
            start(partial(micro_run.main, unbroken.command(folder)), output).wait()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        child = start(partial(micro_run.main, unbroken.command(folder)), output)
        code, text = child.wait(), child.text()
        problem = None
        if code != 2 or "Traceback" in text or "Read-only file system" not in text:
            problem = f"exit code {code}: {text}"
        if resume and problem is None:
            (run_folder,) = micro_run.run_folders(folder)
            problem = difference(run_folder, unbroken)
    return problem


def share_little_memory(work: Path, unbroken: Unbroken, kibibytes: int) -> Finding:
    """Batches find no room on their way: a sentence, and nothing that was saved is lost."""
    log_path = new_folder(work, "shared")
    with memory_disk(SHARED_MEMORY, kibibytes):
        main = partial(micro_run.main, unbroken.command(log_path, *WORKERS))
        child = start(main, log_path / "output")
        problem = sentence_missing(child, "error: no room for batches in shared memory", (1, 2))
    return problem or finding_after_resume(log_path, unbroken)


def trials(request: str) -> dict[str, list[Finding]]:
    """All trials, inside the namespace."""
    work, unbroken, sizes, shared_sizes = json.loads(request)
    work, unbroken = Path(work), Unbroken(**unbroken)
    return {
        "full": [fill_disk(work, unbroken, size) for size in sizes],
        "shared memory": [share_little_memory(work, unbroken, size) for size in shared_sizes],
        "read-only": [forbid_writing(work, unbroken, resume=resume) for resume in (False, True)],
    }


if __name__ == "__main__":
    print(json.dumps(trials(sys.argv[1])))
