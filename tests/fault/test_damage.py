"""Damaged and hostile files in place of last.pt, given to the command that goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, product
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.fault import micro_run
from tests.fault.micro_run import ending
from tests.fault.trial import promise
from tests.support.damage import (
    EVIL,
    WRAPPINGS,
    bit_flipped,
    cut,
    malicious_file,
    page_zeroed,
    replace_file,
)

pytestmark = pytest.mark.own_process

SOME = (0, 1, 8, 15)  # sixteenths, in the quick campaign


class Finished(NamedTuple):
    """A finished run with two good checkpoints, and the command that made it."""

    folder: Path
    command: Sequence[str]
    good: bytes

    @property
    def newest(self) -> Path:
        return self.folder / "last.pt"

    def assert_goes_on(self, damaged: bytes) -> None:
        """With this as last.pt, --resume auto reports it and goes on from last-1.pt."""
        replace_file(self.newest, damaged)
        code, text = ending([*self.command, "--resume", "auto"])
        assert code == 0, text
        assert f"{self.newest} " in text
        assert f"going on from {self.folder / 'last-1.pt'}" in text

    def assert_refused_by_name(self, damaged: bytes) -> None:
        """With --resume or --evaluate and its name, the file is refused in one sentence."""
        replace_file(self.newest, damaged)
        for flag in ("--resume", "--evaluate"):
            code, text = ending([*self.command, flag, str(self.newest)])
            assert code == 2 and "Traceback" not in text, text
            (error,) = micro_run.errors_in(text)
            assert str(self.newest) in error


@pytest.fixture(scope="module")
def finished(work) -> Finished:
    """A run of one epoch, whose last two checkpoints are both of its end."""
    log_path = work / "damaged"
    command = [*micro_run.ARGUMENTS, "--num_epoch", "1", "--log_path", str(log_path)]
    code, text = ending(command)
    assert code == 0, text
    (folder,) = micro_run.run_folders(log_path)
    good = (folder / "last.pt").read_bytes()
    replace_file(folder / "last-1.pt", good)
    return Finished(folder, command, good)


@promise("last.pt cut at k/16: reported, the checkpoint before is used", 16, SOME)
def test_cut(finished, trial):
    finished.assert_goes_on(cut(finished.good, trial))


@promise("one bit of last.pt flipped: reported, the checkpoint before is used", full=400, quick=6)
def test_bit_flipped(finished, choose):
    finished.assert_goes_on(bit_flipped(finished.good, choose.getrandbits(32)))


@promise("one page of last.pt zeroed: reported, the checkpoint before is used", full=100, quick=4)
def test_page_zeroed(finished, choose):
    finished.assert_goes_on(page_zeroed(finished.good, choose.getrandbits(32)))


@promise("last.pt cut at k/16, named by --resume or --evaluate: refused, exit code 2", 16, SOME)
def test_cut_and_named(finished, trial):
    finished.assert_refused_by_name(cut(finished.good, trial))


@promise(
    "malicious pickles (five, in four kinds of file): nothing runs, refused",
    list(product(EVIL, WRAPPINGS)),
    list(zip(EVIL, cycle(WRAPPINGS))),
)
def test_malicious(finished, trial, work):
    mark = work / "executed"
    evil = malicious_file(*trial, mark)
    finished.assert_goes_on(evil)
    finished.assert_refused_by_name(evil)
    assert not mark.exists(), "code in the file was executed"
