"""The quick fault campaign, in a process of its own, and what its trials rely on."""

import os
import random
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fault import process
from tests.fault.conftest import table_of
from tests.fault.process import CRASHED, ENDLESS, disturbed
from tests.fault.trial import assert_says

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_promise_of_the_quick_campaign_is_held():
    command = [sys.executable, "-m", "pytest", "tests/fault", "--faults", "--quick"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    options = {"cwd": ROOT, "env": environment, "timeout": 900, "text": True}
    result = subprocess.run([*command, "-m", "own_process"], stdout=subprocess.PIPE, **options)
    assert result.returncode == 0, result.stdout
    rows = re.findall(r"^\| (.+?) +\| +(\d+) \| +(\d+) \|$", result.stdout, re.MULTILINE)
    counts = {promise: (int(tried), int(held)) for promise, tried, held in rows}
    kills = [tried for promise, (tried, _) in counts.items() if promise.startswith("kill -9")]
    assert sum(kills) == 6
    assert all(tried == held for tried, held in counts.values())
    assert len(counts) >= 17  # three more where the system has user namespaces


def test_the_table_counts_what_was_tried_and_what_was_held():
    def reports(*promises):
        return [SimpleNamespace(user_properties=[("promise", text)]) for text in promises]

    other = SimpleNamespace(user_properties=[])  # a test that is no trial
    table = table_of(
        {"passed": [*reports("a", "b", "a"), other], "failed": reports("a"), "error": reports("c")}
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows == [["a", "3", "2"], ["b", "1", "1"], ["c", "1", "0"]]


class Ended:
    """A child which ends with this code and text, whatever is done to it."""

    def __init__(self, code, text=""):
        self.code, self.said = code, text

    def wait(self):
        return self.code

    def text(self):
        return self.said


class Latest(random.Random):
    def uniform(self, low, high):
        return high


def test_a_run_that_was_over_is_repeated_and_disturbed_sooner(monkeypatch):
    children, sleeps, met = [Ended(1), Ended(0), Ended(0)], [], []
    last = children[0]
    monkeypatch.setattr(process.time, "sleep", sleeps.append)
    assert disturbed(children.pop, met.append, longest=4, choose=Latest()) == (last, 1)
    assert sleeps == [4, 2, 1] and len(met) == 3
    _, code = disturbed(lambda: Ended(0), met.append, longest=1, choose=Latest())
    assert code == 0  # one that heeds nothing is not repeated for ever


SENTENCE = "error: 3.jpg cannot be read\n"


@pytest.mark.parametrize(
    ("code", "text", "held"),
    [
        (1, f"epoch 0\n{SENTENCE}", True),
        (2, SENTENCE, False),
        (1, "error: something else\n", False),
        (1, f"{SENTENCE}Traceback (most recent call last):\n", False),
        (1, 2 * SENTENCE, False),
        (ENDLESS, SENTENCE, False),
        (CRASHED, SENTENCE, False),
    ],
)
def test_a_program_has_to_end_with_its_code_and_a_sentence_alone(code, text, held):
    try:
        assert_says(Ended(code, text), SENTENCE.strip(), 1)
    except AssertionError:
        assert not held
    else:
        assert held
