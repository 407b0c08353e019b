"""A part in a process of its own, which is ended when its time is over."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmark.part.finding import Finding, keep
from benchmark.part.setting import Setting

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ["benchmark.gpu"]  # and with it PyTorch and all parts


def perform(
    find: Callable[[Setting], Iterator[Finding]], setting: Setting, path: Path
) -> dict[str, Any]:
    """What a part finds until it ends, fails or reaches its deadline.

    Its findings are kept in `path`.json, what it prints in `path`.txt.
    Returns: the record of `keep`, with how the part ended as "outcome" in place of "finished".
    """
    result, log = path.with_suffix(".json"), path.with_suffix(".txt")
    for old in (result, log):
        old.unlink(missing_ok=True)
    process = begin(run_part, find, setting, result, log)
    try:
        process.join(max(setting.seconds_left(), 0))
    finally:
        in_time = not process.is_alive()
        end(process)
    found = json.loads(result.read_bytes()) if result.exists() else {"findings": []}
    if found.pop("finished", False):
        return found | {"outcome": "finished"}
    if not in_time:
        return found | {"outcome": "stopped: its time was over"}
    words = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    return found | {"outcome": ": ".join([f"failed with exit code {process.exitcode}", *words])}


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
    """What the process of a part does."""
    os.setsid()  # so that it can be ended with all that it has started
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    keep(find(setting), result, device=setting.device)


def end(process: BaseProcess) -> None:
    """Kill a part's process, and what it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():  # not yet the leader of a group
        process.kill()
    process.join()
