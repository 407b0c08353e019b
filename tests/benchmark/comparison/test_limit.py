"""A comparison under a limit of time: whole seeds, nothing lost, and a table that says so."""

import json
import re
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmark.comparison import compare, job, report
from benchmark.comparison.limit import OutOfTime, TimeLimit, note_on_seeds
from tests.support.comparison import PLAN, complete
from tests.support.processes import wait_for


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        with self.lock:
            self.now += seconds


def take(limit: TimeLimit, clock: Clock, seed: int, seconds: float) -> None:
    with limit.admitted(seed):
        clock.advance(seconds)


def test_a_further_seed_begins_only_if_the_slowest_so_far_would_fit() -> None:
    clock = Clock()
    limit = TimeLimit(10, [1, 1, 2, 2, 3, 3], clock)
    for seconds in (100, 150, 50, 30):
        take(limit, clock, 1 if seconds >= 100 else 2, seconds)
    assert limit.seconds_left() == 270  # and the slowest took 250
    clock.advance(20)
    take(limit, clock, 3, 249)
    take(limit, clock, 3, 1000)  # a seed that has begun goes on while there is any time
    assert limit.seconds_left() == 0


def test_a_seed_that_would_not_fit_is_not_begun() -> None:
    clock = Clock()
    limit = TimeLimit(10, [1, 2, 3], clock)
    take(limit, clock, 1, 300)
    take(limit, clock, 2, 0.5)
    with pytest.raises(OutOfTime, match="not begun"):
        take(limit, clock, 3, 0)


@pytest.mark.parametrize(("age", "fits"), [(299, True), (301, False)])
def test_a_seed_in_progress_counts_with_the_time_that_it_has_taken(age, fits) -> None:
    """With several runs at a time the next seed begins before the present one is over."""
    clock = Clock()
    limit = TimeLimit(10, [1, 2], clock)
    with limit.admitted(1):
        clock.advance(age)
        with nullcontext() if fits else pytest.raises(OutOfTime):
            take(limit, clock, 2, 0)


def test_after_the_limit_nothing_begins_and_without_one_everything() -> None:
    clock = Clock()
    limit, endless = TimeLimit(1, [1, 1], clock), TimeLimit(None, [1, 2], clock)
    take(limit, clock, 1, 60)
    with pytest.raises(OutOfTime):
        take(limit, clock, 1, 0)
    for seed in (1, 2):
        take(endless, clock, seed, 1e9)
    assert endless.seconds_left() is None


def test_the_note_names_the_seeds() -> None:
    assert note_on_seeds(6, [60, 61], [60, 61]) is None
    assert note_on_seeds(6, [60, 61, 62], [60, 61]).startswith("2 of the 3 planned seeds (60, 61)")
    assert note_on_seeds(0.5, [60], []).startswith("INCOMPLETE: no seed was over within the limit")


# --- a program that is stopped -----------------------------------------------------------------

SAVES_ITSELF = """
import signal, sys, time
def stop(*_):
    open("saved", "w").close()
    sys.exit(CODE)
signal.signal(signal.SIGTERM, stop)
open("ready", "w").close()
time.sleep(600)
"""


class LeftUntil(TimeLimit):
    """There is time until a file is there."""

    def __init__(self, path: Path):
        super().__init__(None, [])
        self.path = path

    def seconds_left(self) -> float:
        wait_for(self.path.exists, 120)
        return 0.0


@pytest.mark.parametrize("code", [143, 0])
def test_what_runs_at_the_limit_is_asked_to_stop_and_saves_itself(
    code, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program, limit = SAVES_ITSELF.replace("CODE", str(code)), LeftUntil(tmp_path / "ready")
    through = code == 0  # when the signal came
    with nullcontext() if through else pytest.raises(OutOfTime, match="stopped at the limit"):
        assert job._call(["-c", program], tmp_path, 1, limit) is None
    assert (tmp_path / "saved").exists()


def test_a_run_that_does_not_stop_is_ended(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "PATIENCE", 0.1)
    deaf = SAVES_ITSELF.replace("SIGTERM, stop", "SIGTERM, signal.SIG_IGN")
    with pytest.raises(OutOfTime, match="stopped at the limit"):
        job._call(["-c", deaf], tmp_path, 1, LeftUntil(tmp_path / "ready"))
    assert not (tmp_path / "saved").exists()


# --- the command -------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Runs a plan of three seeds whose jobs take the given seconds, or fail if that is negative."""
    monkeypatch.setattr(report, "picture", lambda *args: b"")
    (tmp_path / "plan.toml").write_text(PLAN.replace("[1, 2]", "[1, 2, 3]"))
    clock = Clock()

    def run(*flags: str, seconds: Callable[[job.Job], float]) -> Path:
        def perform(own: job.Job, *, threads: int, limit: TimeLimit) -> str | None:
            if own.run_folder() is not None:
                return None
            with limit.admitted(own.seed):
                needed = seconds(own)
                if needed < 0:
                    return "error: out of luck"
                left = limit.seconds_left()
                if left is not None and left < needed:
                    clock.advance(left)
                    raise OutOfTime("stopped at the limit; the same command goes on")
                clock.advance(needed)
                return complete(own)

        monkeypatch.setattr(compare, "perform", perform)
        monkeypatch.setattr(compare, "TimeLimit", lambda *args: TimeLimit(*args, clock))
        output = tmp_path / "out"
        compare.main(["--plan", str(tmp_path / "plan.toml"), "--output", str(output), *flags])
        return output

    return run


def results(output: Path) -> tuple[str, dict]:
    text = (output / "results.md").read_text()
    return text, json.loads((output / "results.json").read_bytes())


def seeds_of(record: dict) -> list[set[str]]:
    return [set(row["runs"]) for row in record["rows"]]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_results_are_of_whole_seeds_and_the_same_command_goes_on(jobs, command, capsys) -> None:
    """280 seconds per seed, whether its rows run in turn or at one time: the third waits."""
    meet = threading.Barrier(int(jobs))

    def seconds(own: job.Job) -> float:
        meet.wait(60)  # both rows of a seed begin before either ends
        return 140.0

    output = command("--minutes", "10", "--jobs", jobs, seconds=seconds)
    text, record = results(output)
    assert "2 of the 3 planned seeds (1, 2): there was no time" in text
    assert record["seeds"] == [1, 2] and seeds_of(record) == [{"1", "2"}] * 2
    assert capsys.readouterr().out.count("not begun") == 2
    text, record = results(command(seconds=lambda own: 140))
    assert "planned" not in text and record["note"] is None
    assert record["seeds"] == [1, 2, 3] and seeds_of(record) == [{"1", "2", "3"}] * 2


def test_a_seed_that_the_limit_cuts_is_left_out(command) -> None:
    output = command("--minutes", "10", seconds=lambda own: 100 if own.seed == 1 else 250)
    text, record = results(output)  # seed 2 began, since seed 1 took 200 of 600 s
    assert "1 of the 3 planned seeds (1)" in text
    assert seeds_of(record) == [{"1"}] * 2
    assert (output / "runs" / "esd" / "seed2" / "done.json").exists()  # but nothing is lost


def test_without_a_whole_seed_the_table_is_marked_and_the_code_is_3(command, tmp_path) -> None:
    with pytest.raises(SystemExit) as end:
        command("--minutes", "10", seconds=lambda own: 100 if own.row.name == "esd" else 1000)
    text, record = results(tmp_path / "out")
    assert end.value.code == 3
    assert "INCOMPLETE: no seed was over within the limit of 10 minutes" in text
    assert [set(runs) for runs in seeds_of(record)] == [{"1"}, set()]
    assert re.search(r"\| sltt +\| sltt +\| .*\| +0 \|", text)


def test_a_run_that_fails_is_named_and_all_others_count(command, tmp_path) -> None:
    with pytest.raises(SystemExit) as end:
        command("--minutes", "10", seconds=lambda own: -1 if own.key == ("sltt", 1) else 100)
    text, record = results(tmp_path / "out")
    assert end.value.code == 1
    assert "planned" not in text and "\n\nFailed: sltt, seed 1: error: out of luck\n\n" in text
    assert record["seeds"] == [1, 2, 3]
    rows = [[cell.strip() for cell in line.split("|")[1:8]] for line in text.splitlines()]
    assert ["esd", "esd", "reliable", "resnet18", "2", "3", "50.00 ± 0.00"] in rows
    assert ["sltt", "sltt", "", "resnet18", "2", "2", "50.00 ± 0.00"] in rows
