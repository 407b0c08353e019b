"""Checkpoints that are cut, damaged or hostile: each is noticed, and an earlier one is used."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch

from benchmark.fault import micro_run
from benchmark.fault.kill import Finding
from util import checkpoint

PAGE = 4096  # bytes that a file system loses at once


class Finished(NamedTuple):
    """A finished run with two good checkpoints, and the command that made it."""

    folder: Path
    command: Sequence[str]

    @property
    def newest(self) -> Path:
        return self.folder / "last.pt"


def finished_run(work: Path, argv: Sequence[str]) -> Finished:
    """A run of one epoch, whose last two checkpoints are both of its end."""
    log_path = work / "damaged"
    command = [*argv, "--num_epoch", "1", "--log_path", str(log_path)]
    code, text = ending(command)
    if code != 0:
        raise RuntimeError(f"the run to be damaged failed: {text}")
    (folder,) = micro_run.run_folders(log_path)
    shutil.copy(folder / "last.pt", folder / "good")
    (folder / "last-1.pt").unlink()
    shutil.copy(folder / "good", folder / "last-1.pt")
    return Finished(folder, command)


def truncations(content: bytes) -> Iterator[bytes]:
    """The first k/16 of the file."""
    for part in range(16):
        yield content[: len(content) * part // 16]


def bit_flips(content: bytes, count: int, choose: random.Random) -> Iterator[bytes]:
    """One bit inverted, anywhere."""
    for _ in range(count):
        bit = choose.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def zeroed_pages(content: bytes, count: int, choose: random.Random) -> Iterator[bytes]:
    """One page of zeros, anywhere."""
    for _ in range(count):
        start = PAGE * choose.randrange(-(-len(content) // PAGE))
        page = content[start : start + PAGE]
        yield content[:start] + bytes(len(page)) + content[start + len(page) :]


def go_on_after(finished: Finished, damaged: bytes) -> Finding:
    """With this as last.pt, --resume auto reports it and goes on from last-1.pt."""
    _replace(finished.newest, damaged)
    code, text = ending([*finished.command, "--resume", "auto"])
    reported = f"{finished.newest} " in text
    went_on = f"going on from {finished.folder / 'last-1.pt'}" in text
    if code != 0 or not (reported and went_on):
        return f"exit code {code}: {text}"
    return None


def refused_by_name(finished: Finished, damaged: bytes) -> Finding:
    """With --resume or --evaluate and its name, the file is refused in one sentence."""
    _replace(finished.newest, damaged)
    for flag in ("--resume", "--evaluate"):
        code, text = ending([*finished.command, flag, str(finished.newest)])
        sentences = [line for line in text.splitlines() if line.startswith("error: ")]
        named = len(sentences) == 1 and str(finished.newest) in sentences[0]
        if code != 2 or not named or "Traceback" in text:
            return f"{flag}: exit code {code}: {text}"
    return None


class Call:
    """Unpickles into a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


class Build:
    """Unpickles through a method of its own."""

    def __init__(self, mark: str):
        self.mark = mark

    def __setstate__(self, state: dict[str, str]) -> None:
        open(state["mark"], "w").close()


def malicious_objects(mark: str) -> dict[str, Any]:
    """Objects that leave the file `mark` when they are unpickled without care."""
    return {
        "os.system": Call(os.system, f"touch {mark}"),
        "eval": Call(builtins.eval, f"open({mark!r}, 'w').close()"),
        "import": [Call(builtins.__import__, "sched"), Call(os.mkdir, mark)],
        "reduce": Build(mark),
        "nested": {"a": [{"b": (torch.zeros(2), [Call(os.mkdir, mark)])}]},
    }


def malicious_files(evil: Any) -> dict[str, bytes]:
    """The object as three kinds of file; the last one carries a correct digest."""
    state = {"model": {"weight": torch.zeros(3)}, "extra": evil}
    archive = io.BytesIO()
    torch.save(state, archive)
    with mock.patch.object(checkpoint, "_plain", lambda value, place: value):
        sealed = bytes(checkpoint.sealed_archive(state))
    return {"pickle": pickle.dumps(evil), "torch.save": archive.getvalue(), "sealed": sealed}


def does_harm(content: bytes, mark: Path) -> bool:
    """Whether an unpickler without care executes the file: the proof that a trial could fail."""
    try:
        pickle.loads(content)
    finally:
        done = mark.exists()
        if done:
            mark.rmdir() if mark.is_dir() else mark.unlink()
    return done


def ending(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a command run in this process; -1 and the error if it crashed."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        try:
            micro_run.main(command)
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            print(f"Traceback: {error!r}")
            code = -1
    return code, output.getvalue()


def _replace(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)
