"""Files that a checkpoint may have turned into, and objects that execute code where they are read.

Every damage is a function (content, number) -> damaged content; the number says which one.
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from util import checkpoint

PAGE = 4096  # bytes that a file system loses at once


def cut(content: bytes, number: int) -> bytes:
    """The first so many sixteenths; after all of these, all but the last bytes."""
    return content[: len(content) * number // 16 if number < 16 else 15 - number]


def bit_flipped(content: bytes, number: int) -> bytes:
    """One bit inverted, anywhere."""
    bit = random.Random(number).randrange(8 * len(content))
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def end_flipped(content: bytes, number: int) -> bytes:
    """One bit inverted in the digest or the length that stands before it."""
    end = checkpoint.SEAL_LENGTH + 2
    return content[:-end] + bit_flipped(content[-end:], number)


def page_zeroed(content: bytes, number: int) -> bytes:
    """One page of zeros, anywhere."""
    start = PAGE * random.Random(number).randrange(-(-len(content) // PAGE))
    page = content[start : start + PAGE]
    return content[:start] + bytes(len(page)) + content[start + len(page) :]


def appended(content: bytes, number: int) -> bytes:
    """More at the end: a byte, or the whole file again."""
    return content + (b"\0", b"\n", content)[number % 3]


def replace_file(path: Path, content: bytes) -> None:
    """Other content under this name alone, not under further names of the file."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def damage_file(path: Path) -> None:
    """Invert a bit in the file of this name."""
    replace_file(path, bit_flipped(path.read_bytes(), 0))


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


EVIL = ("os.system", "eval", "import", "reduce", "nested")
WRAPPINGS = ("pickle", "torch.save", "legacy torch.save", "sealed")


def malicious_object(kind: str, mark: Path) -> Any:
    """An object of a kind in EVIL that leaves the file `mark` when it is unpickled without care."""
    return {
        "os.system": Call(os.system, f"touch {mark}"),
        "eval": Call(builtins.eval, f"open({str(mark)!r}, 'w').close()"),
        "import": [Call(builtins.__import__, "sched"), Call(os.mkdir, str(mark))],
        "reduce": Build(str(mark)),
        "nested": {"a": [{"b": (torch.zeros(2), [Call(os.mkdir, str(mark))])}]},
    }[kind]


def malicious_file(kind: str, wrapping: str, mark: Path) -> bytes:
    """The object in a file of a kind in WRAPPINGS; "sealed": with a correct digest."""
    evil = malicious_object(kind, mark)
    state = {"model": {"weight": torch.zeros(3)}, "extra": evil}
    if wrapping == "pickle":
        return pickle.dumps(evil, protocol=2)
    if wrapping == "sealed":
        with mock.patch.object(checkpoint, "_plain", lambda value, place: value):
            return bytes(checkpoint.sealed_archive(state))
    archive = io.BytesIO()
    torch.save(state, archive, _use_new_zipfile_serialization=wrapping == "torch.save")
    return archive.getvalue()
