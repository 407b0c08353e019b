"""A part in a process of its own, which is ended when its time is over."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from benchmark.speed.part.finding import Finding, keep
from benchmark.speed.part.setting import Setting

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(Path(__file__).parent.glob("[a-z]*.py"))
PRELOADED = [f"benchmark.speed.part.{file.stem}" for file in FILES]  # and with them PyTorch


def perform_part(
    find: Callable[[Setting], Iterator[Finding]], setting: Setting, path: Path
) -> dict[str, Any]:
    """What a part finds until it ends, fails or reaches its deadline.

    What it prints is in `path`.txt, unless it finishes.
    Returns: the record of `keep`, with how the part ended as "outcome" in place of "finished", and
    its "seconds".
    """
    result, log = path.with_suffix(".json"), path.with_suffix(".txt")
    for old in (result, log):
        old.unlink(missing_ok=True)
    begun = time.monotonic()
    process = begin(run_part, find, setting, result, log)
    usual = signal.signal(signal.SIGTERM, leave_with_part)
    try:
        process.join(max(setting.seconds_left(), 0))
    finally:
        in_time = not process.is_alive()
        end(process)
        signal.signal(signal.SIGTERM, usual)
    found = json.loads(result.read_bytes()) if result.exists() else {"findings": []}
    result.unlink(missing_ok=True)
    if found.pop("finished", False):
        log.unlink()
        outcome = "finished"
    elif in_time:
        outcome = f"failed with exit code {process.exitcode}{last_error(log)}"
    else:
        outcome = "stopped: its time was over"
    return found | {"outcome": outcome, "seconds": round(time.monotonic() - begun, 1)}


def last_error(log: Path) -> str:
    """The last line of a log that names an error; some errors explain themselves behind it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if re.match(r"[\w.]+: ", line)]
    return "".join(f": {line}" for line in errors[-1:])


def leave_with_part(number: int, frame: FrameType | None) -> NoReturn:
    """Asked to stop: the part must not live on."""
    sys.exit(128 + number)


def begin(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A new process that has the libraries already.

    They are imported once, by a server process that never touches the GPU and forks the others.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # the server's
    multiprocessing.set_forkserver_preload(PRELOADED)
    process = multiprocessing.get_context("forkserver").Process(target=work, args=arguments)
    process.start()
    return process


def run_part(
    find: Callable[[Setting], Iterator[Finding]], setting: Setting, result: Path, log: Path
) -> None:
    os.setsid()  # so that it can be ended with all that it has started
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    keep(find(setting), result, device=setting.device)


def end(process: BaseProcess) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():  # not yet the leader of a group
        process.kill()
    process.join()
