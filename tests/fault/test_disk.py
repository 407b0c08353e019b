"""Full or read-only disks and little shared memory: file systems in a namespace of their own."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from experiment.train.failure import SHARED_MEMORY
from tests.fault import micro_run
from tests.fault.process import start
from tests.fault.trial import WORKERS, Runs, assert_ends, assert_says, promise
from util.checkpoint import load_checkpoint
from util.file.history import BEST, list_checkpoints

pytestmark = pytest.mark.own_process

NEW_USER, NEW_MOUNTS = 0x10000000, 0x00020000  # flags of unshare(2)


def enter_namespace() -> None:
    """This process, a single thread, may mount what it likes, and nobody else sees it."""
    ids = {"uid_map": os.getuid(), "gid_map": os.getgid()}
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_USER | NEW_MOUNTS) != 0:
        raise OSError(ctypes.get_errno(), "no namespaces")
    Path("/proc/self/setgroups").write_text("deny")
    for name, own in ids.items():
        Path("/proc/self", name).write_text(f"0 {own} 1")


def in_namespace(runs: Runs, trial: Callable[[], None]) -> None:
    """Make a trial in a child that may mount; skips it where the system does not let users."""
    trying, output = start(enter_namespace, runs.folder() / "trying"), runs.folder() / "trial"
    if trying.wait() != 0:
        pytest.skip("this system has no user namespaces: disks are not tried")

    def entered() -> None:
        enter_namespace()
        trial()

    assert_ends(start(entered, output))


def mount_memory(folder: Path, kibibytes: int) -> None:
    options = f"size={kibibytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


SIZES = (64, 300, 500, 600, 650, 700)  # KiB, all too small for a run


@promise(
    "disk full (1 MB and less): one sentence; what was saved, resumed elsewhere: identical",
    SIZES,
    [700],
)
def test_full_disk(runs, trial):
    output, elsewhere = runs.folder() / "output", runs.folder() / "rescued"

    def fill() -> None:
        full = runs.folder()
        mount_memory(full, trial)
        child = start(runs.main(full), output)
        code, text = child.wait(), child.text()
        assert code in (1, 2) and "Traceback" not in text, text
        assert "No space left" in text.splitlines()[-1], text
        shutil.copytree(full, elsewhere)

    in_namespace(runs, fill)
    for folder in micro_run.run_folders(elsewhere):
        best = [folder / BEST] if (folder / BEST).exists() else []
        for path in list_checkpoints(folder) + best:
            load_checkpoint(path)
    runs.assert_resumes(elsewhere)


@promise(
    "little shared memory (96 KiB and less): one sentence; resumed with more: identical",
    (4, 16, 32, 64, 96),
    [64],
)
def test_little_shared_memory(runs, trial):
    log_path = runs.folder()

    def fill() -> None:
        mount_memory(Path(SHARED_MEMORY), trial)
        child = runs.begin(log_path, *WORKERS)
        assert_says(child, "error: no room for batches in shared memory", 1, 2)

    in_namespace(runs, fill)
    runs.assert_resumes(log_path)


@promise("read-only disk: one sentence, exit code 2", ("begun", "resumed"))
def test_read_only_disk(runs, trial):
    output = runs.folder() / "output"

    def forbid() -> None:
        folder = runs.folder()
        mount_memory(folder, 8192)
        if trial == "resumed":
            assert_ends(start(runs.main(folder), output))
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        child = start(runs.main(folder), output)
        code, text = child.wait(), child.text()
        assert code == 2 and "Traceback" not in text, text
        assert "Read-only file system" in text, text
        for run_folder in micro_run.run_folders(folder):
            runs.assert_same(run_folder)

    in_namespace(runs, forbid)
