"""A part of the fault campaign, in a process that has not computed anything before."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark import faults
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
    kills = [count for promise, count in counts.items() if "kill -9" in promise]
    assert sum(tried for tried, _ in kills) == 10
    assert all(tried == held for tried, held in counts.values())
    assert len(counts) >= 14  # two more where the system has user namespaces


def test_a_broken_promise_is_counted_and_printed(capsys):
    assert tally("nothing is lost", [None, "a checkpoint", None]) == Row("nothing is lost", 3, 2)
    assert "NOT HELD: nothing is lost: a checkpoint" in capsys.readouterr().err


def test_the_whole_campaign_is_what_was_asked_for():
    full = faults.FULL
    assert full.kills + full.kills_in_save == 50 and full.kills == full.kills_in_save
    assert (full.signals, full.bit_flips, full.pages) == (20, 400, 100)
    assert (full.argument_lists, full.starts) == (2000, 8)
    assert 1024 in full.disk_kibibytes


@pytest.mark.parametrize("kind", malicious_objects(""))
def test_the_malicious_files_do_harm_where_nobody_guards(kind, tmp_path):
    mark = tmp_path / "executed"
    files = malicious_files(malicious_objects(str(mark))[kind])
    assert does_harm(files["pickle"], mark)
    assert len(set(files.values())) == 3
