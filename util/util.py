"""Around a run: seeds and random state, the run folder, the log, a report of the environment."""

import importlib.metadata
import itertools
import logging
import os
import platform
import random
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from util.file.atomic import described

LOGGER_NAME = "train"
REPORTED_PACKAGES = ("torch", "torchvision", "spikingjelly", "numpy")


def seed_everything(seed: int) -> None:
    """Seed python, numpy and torch (all devices), and make cuDNN repeat itself.

    Raises: ValueError for a seed outside 0 ... 2^32 - 1, the range that numpy accepts.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed {seed}: expected a whole number from 0 to {2**32 - 1}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def random_state() -> dict[str, Any]:
    """States of all global generators, as tensors and plain types (for a checkpoint).

    Of the CUDA generators only the current device's is read: a process trains on one device, and
    asking the others would allocate a context on each.
    """
    version, internal, next_gauss = random.getstate()
    kind, keys, position, has_gauss, cached_gaussian = np.random.get_state()
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {
        "python": [version, torch.tensor(internal, dtype=torch.int64), next_gauss],
        "numpy": [
            str(kind),
            torch.from_numpy(keys.astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached_gaussian),
        ],
        "torch": torch.get_rng_state(),
        "cuda": cuda,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put the generators back to a `random_state()`.

    The CUDA state is skipped where there is no CUDA device: continuing there is allowed, though
    not bit for bit.
    """
    version, internal, next_gauss = state["python"]
    random.setstate((version, tuple(internal.tolist()), next_gauss))
    kind, keys, position, has_gauss, cached_gaussian = state["numpy"]
    np.random.set_state(
        (kind, keys.cpu().numpy().astype(np.uint32), position, has_gauss, cached_gaussian)
    )
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def create_run_folder(log_path: str | os.PathLike, name: str) -> Path:
    """Create a new folder `name`, `name-2`, `name-3`, ... in `log_path` and return it.

    mkdir either creates a folder or fails, so runs started at the same moment never share one.
    `log_path` itself is created where it is missing, with its parents.

    Raises: ValueError for a name that is not one plain path component; OSError (read-only disk, a
    file in the way, ...).
    """
    if not re.fullmatch(r"[\w.+=,-]*[\w+=,-][\w.+=,-]*", name):
        raise ValueError(
            f"run name {name!r}: expected letters, digits and any of . _ + = , - (no path)"
        )
    log_path = Path(log_path)
    _make_folder(log_path, exist_ok=True)
    for number in itertools.count(1):
        folder = log_path / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            _make_folder(folder, exist_ok=False)
            return folder


def _make_folder(folder: Path, *, exist_ok: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError | NotADirectoryError):
            advice = "a file is in the way; choose another path"
        else:
            advice = f"{error.strerror}; choose a folder that can be written to"
        raise described(error, f"cannot create the folder {folder}: {advice}") from error


def setup_logging(folder: str | os.PathLike | None, *, rank: int = 0) -> logging.Logger:
    """The program's logger: console and, with a folder, `train.log` in it; silent if rank > 0.

    An existing train.log is continued. Handlers of an earlier call are closed.
    """
    logger = logging.getLogger(LOGGER_NAME)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if rank > 0:
        logger.addHandler(logging.NullHandler())
        return logger
    console = _Console(sys.stdout)
    console.name = "standard output"
    console.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(console)
    if folder is not None:
        file = _LogFile(Path(folder) / "train.log", encoding="utf-8", errors="backslashreplace")
        file.name = file.baseFilename
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(file)
    return logger


class _Console(logging.StreamHandler):
    """A handler that says once that it cannot write; it prints no traceback, nor stops a run."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failed:
            self.failed = True
            print(f"cannot write {self.name}: {sys.exc_info()[1]}", file=sys.stderr)


class _LogFile(_Console, logging.FileHandler):
    """The same for a file, whose disk may be full."""


def environment_report() -> dict[str, Any]:
    """What a result depends on beside its configuration, as JSON types."""
    on_cuda = torch.cuda.is_available()
    return {
        "command": shlex.join(sys.orig_argv),
        "python": platform.python_version(),
        **{package: _package_version(package) for package in REPORTED_PACKAGES},
        "cuda": torch.version.cuda if on_cuda else None,
        "cudnn": torch.backends.cudnn.version() if on_cuda else None,
        "device": torch.cuda.get_device_name() if on_cuda else processor_name(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "git_commit": _git_commit(),
    }


def _package_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """The model of this machine's processor, as /proc/cpuinfo or the platform has it."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        match = re.search(r"model name\s*:\s*(.+)", information.read_text(encoding="utf-8"))
        if match:
            return match[1]
    return platform.processor() or platform.machine()


def _git_commit() -> str | None:
    """Commit of the source tree, with "-dirty" if files differ from it; None without git."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        answer = subprocess.run(
            [*command, "--exclude=*"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
