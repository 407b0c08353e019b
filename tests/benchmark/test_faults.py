"""A part of the fault campaign, in a process that has not computed anything before."""

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import faults
from benchmark.fault import kill, loading, process
from benchmark.fault.damage import does_harm, malicious_files, malicious_objects
from benchmark.faults import Row, tally

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_promise_of_the_quick_campaign_is_held():
    result = subprocess.run(
        [sys.executable, str(ROOT / "benchmark" / "faults.py"), "--quick"],
        capture_output=True, text=True, check=False, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = re.findall(r"^\| (.+) \| (\d+) \| (\d+) \|$", result.stdout, re.MULTILINE)
    counts = {promise: (int(tried), int(held)) for promise, tried, held in rows}
    kills = [count for promise, count in counts.items() if promise.startswith("kill -9")]
    assert sum(tried for tried, _ in kills) == 10
    assert all(tried == held for tried, held in counts.values())
    assert len(counts) >= 17  # three more where the system has user namespaces


def test_a_broken_promise_is_counted_and_printed(capsys):
    assert tally("nothing is lost", [None, "a checkpoint", None]) == Row("nothing is lost", 3, 2)
    assert "NOT HELD: nothing is lost: a checkpoint" in capsys.readouterr().err


def test_the_whole_campaign_is_what_was_asked_for():
    full = faults.FULL
    assert full.kills + full.kills_in_save == 50 and full.kills == full.kills_in_save
    assert (full.signals, full.bit_flips, full.pages) == (20, 400, 100)
    assert (full.argument_lists, full.starts) == (2000, 8)
    assert 700 in full.disk_kibibytes


@pytest.mark.parametrize("kind", malicious_objects(""))
def test_the_malicious_files_do_harm_where_nobody_guards(kind, tmp_path):
    mark = tmp_path / "executed"
    files = malicious_files(malicious_objects(str(mark))[kind])
    assert does_harm(files["pickle"], mark)
    assert len(set(files.values())) == 3


class Ended:
    """A child whose run folder is there, and which ends with this code whatever is done to it."""

    def __init__(self, log_path: Path, code: int):
        self.log_path, self.code = log_path, code
        self.folder = log_path / "run"
        self.folder.mkdir()
        (self.folder / "config.json").touch()

    def send(self, number: int) -> None:
        pass

    def wait(self) -> int:
        return self.code

    def text(self) -> str:
        return f"error: {self.folder} is gone" if self.code == 1 else "finished"


@pytest.mark.parametrize(
    ("trial", "code"),
    [
        (kill.delete_folder, 1),
        (lambda *scene: kill.stop_by_two_signals(*scene, signal.SIGINT), 130),
    ],
)
def test_a_run_that_was_over_is_repeated_and_disturbed_sooner(trial, code, tmp_path, monkeypatch):
    codes, sleeps = iter((0, 0, code)), []
    monkeypatch.setattr(kill, "started_training", lambda path, *_: Ended(path, next(codes)))
    monkeypatch.setattr(kill, "finding_after_resume", lambda *_: None)
    monkeypatch.setattr(process.time, "sleep", sleeps.append)

    class Latest(random.Random):
        def uniform(self, low: float, high: float) -> float:
            return high

    unbroken = kill.Unbroken((), {}, 12.0, 0)
    assert trial(tmp_path, unbroken, Latest(0)) is None
    assert [seconds for seconds in sleeps if seconds != 0.02] == [4, 2, 1]


def test_a_run_that_heeds_nothing_is_a_finding(tmp_path, monkeypatch):
    monkeypatch.setattr(kill, "started_training", lambda path, *_: Ended(path, 0))
    monkeypatch.setattr(process.time, "sleep", lambda seconds: None)
    finding = kill.delete_folder(tmp_path, kill.Unbroken((), {}, 1.0, 0), random.Random(0))
    assert finding == "exit code 0: finished"


def test_what_a_trial_chooses_hangs_on_the_seed_the_kind_and_its_number_alone():
    places = [(seed, kind, i) for seed in (0, 1) for kind in ("kill", "bits") for i in (0, 1)]
    drawn = [faults.generator(*place).random() for place in places]
    assert len(set(drawn)) == len(places)
    assert drawn == [faults.generator(*place).random() for place in places]


@pytest.mark.parametrize(
    ("code", "text", "held"),
    [
        (1, "epoch 0\nerror: 3.jpg cannot be read\n", True),
        (2, "error: 3.jpg cannot be read\n", False),
        (1, "error: something else\n", False),
        (1, "error: 3.jpg cannot be read\nTraceback (most recent call last):\n", False),
        (process.ENDLESS, "error: 3.jpg cannot be read\n", False),
    ],
)
def test_a_program_has_to_end_with_its_code_and_a_sentence_alone(code, text, held, monkeypatch):
    monkeypatch.setattr(Ended, "__init__", lambda child: setattr(child, "code", code))
    monkeypatch.setattr(Ended, "text", lambda child: text)
    finding = loading.sentence_missing(Ended(), "error: 3.jpg cannot be read", (1,))
    assert (finding is None) == held
