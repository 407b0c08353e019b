"""A comparison: a wrong plan is refused at once, a right one is run once and goes on."""

import json
import shlex
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmark.comparison import compare, job, plan, summary
from benchmark.comparison import comparison_picture as picture
from benchmark.comparison.limit import TimeLimit
from tests.fault.micro_run import ending
from tests.support.comparison import EVALUATION, PLAN, RECORD, complete, leave_run

PLANS = sorted((plan.ROOT / "benchmark" / "plan").glob("*.toml"))
HEAD = "# Comparison: plan\n\n    python -m benchmark.comparison.compare --plan"
PAIR, LAST = 'contrasts = [["esd", "sltt"]]\n', 'primary = "last"\n'
QUESTIONS = [  # that cannot be asked, and why
    (LAST, "primary, contrasts and secondary need primary and contrasts"),
    (PAIR, "need primary and contrasts"),
    (PAIR + 'primary = "first"', "the metric 'first' is unknown, expected last, selected,"),
    (PAIR + 'primary = "step 0"', "the metric 'step 0' is unknown"),
    (PAIR + "primary = 1", "the metric 1 is unknown"),
    (PAIR + 'primary = "step 3"', "the metric 'step 3' is beyond T 2 of esd"),
    (PAIR + 'primary = "head 2"', "the metric 'head 2' is beyond head 1, sltt's last"),
    (PAIR + 'primary = "head 5"', "the metric 'head 5' is beyond head 4, esd's last"),
    (PAIR + 'primary = "selected"', "the metric 'selected' needs val_fraction in the row esd"),
    (PAIR + LAST + 'secondary = ["last"]', "name a metric twice"),
    (PAIR + LAST + 'secondary = "area"', "secondary is 'area', expected metrics in a list"),
    (LAST + "contrasts = []", "contrasts is [], expected pairs of rows"),
    (LAST + 'contrasts = ["esd"]', "the contrast 'esd' is not one of two different rows"),
    (LAST + 'contrasts = [["esd"]]', "the contrast ['esd'] is not one of two"),
    (LAST + 'contrasts = [["esd", "esd"]]', "the contrast ['esd', 'esd'] is not one of two"),
    (LAST + 'contrasts = [["esd", "no"]]', "names 'no', expected a row: esd, sltt"),
    (LAST + 'contrasts = [["esd", "sltt"], ["sltt", "esd"]]', "['sltt', 'esd'] is there twice"),
]


@pytest.fixture
def written(tmp_path):
    """Writes a plan, which differs from PLAN in a word, and returns its path."""

    def write(*change: str) -> Path:
        path = tmp_path / "plan.toml"
        path.write_text(PLAN.replace(*change) if change else PLAN)
        return path

    return write


@pytest.fixture
def stopped(tmp_path):
    """Gives a plan to the command, which has to stop: its exit code."""

    def run(path: Path) -> int:
        with pytest.raises(SystemExit) as stop:
            compare.main(["--plan", str(path), "--output", str(tmp_path / "out")])
        return stop.value.code

    return run


# --- plans -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_plan_of_the_project_is_understood(path: Path) -> None:
    found = plan.read_plan(path)
    assert len(found.rows) >= 2
    epochs = {row.arguments["num_epoch"] for row in found.rows}
    assert len(epochs) == 1  # or the rows could not be compared
    for line in path.read_text().splitlines():
        if line.startswith("#   python"):
            command = shlex.split(line)[1:]
            assert command[:3] == ["python", "-m", "benchmark.comparison.compare"]
            assert compare.get_parser().parse_args(command[3:]).plan.name == path.name


def test_there_are_plans() -> None:
    assert len(PLANS) >= 6


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("seeds = [1, 2]", "seeds = [1, 1]", "seeds is [1, 1], expected different whole"),
        ("seeds = [1, 2]", "", "seeds is []"),
        ("seeds = [1, 2]", 'experiment = "mnist"', "is 'mnist', expected one of cifar"),
        ("width = 2", "widht = 2", "row esd: 'widht' is no flag of the main; flags are"),
        ("width = 2", "seed = 2", "'seed' is set by the comparison"),
        ("width = 2", 'data_path = ""', "argument --data_path: expected a path"),
        ('"sltt"\n', '"esd"\n', "row 2 has the name 'esd', expected one of its own"),
        ('method = "sltt"', 'method = "stdp"', "(the flags of row sltt in "),
        ('method = "sltt"', "T_min = 3", "row sltt: --T_min 3 is above --T 2: expected a number"),
        (
            "[flags]",
            "[flag]",
            "key 'flag', expected contrasts, experiment, flags, primary, row,",
        ),
        ("[flags]", "[flags", "is not a TOML file"),
        *(("[flags]", f"{asked}\n[flags]", sentence) for asked, sentence in QUESTIONS),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_runs(
    written, stopped, tmp_path, capsys, old, new, sentence
) -> None:
    assert stopped(written(old, new)) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_paths_in_a_plan_are_those_of_a_command_line(written, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    path = written("[flags]", '[flags]\ndata_path = "~/data"')
    assert plan.read_plan(path).rows[0].arguments["data_path"] == Path("/somewhere/data")


# --- runs --------------------------------------------------------------------------------------


def test_what_a_comparison_lacks_is_done_and_its_numbers_are_the_runs(written, tmp_path) -> None:
    """Seed 1 by the programs themselves; seed 2 is there, as if the comparison had been stopped."""
    path, output = written(PLAN[PLAN.rindex("[[row]]") :], ""), tmp_path / "out"  # one row
    _, done = job.jobs_of(plan.read_plan(path), output / "runs")
    complete(done, evaluation=EVALUATION | {"head_top1": [30.0, 30.0, 30.0, 50.0]})
    files = {p: p.stat().st_mtime_ns for p in done.folder.glob("**/*") if p.is_file()}
    (entry,) = compare.main(["--plan", str(path), "--output", str(output)])
    assert set(entry["runs"]) == {1, 2} and not entry["problems"]
    assert files == {p: p.stat().st_mtime_ns for p in done.folder.glob("**/*") if p.is_file()}
    run = entry["runs"][1]
    (metrics,) = output.glob(f"runs/{entry['name']}/seed1/*/metrics.jsonl")
    (record,) = (json.loads(line) for line in metrics.read_text().splitlines())
    assert run["last"] == run["best"] == record["test"]["top1"]
    assert run["heads"] == pytest.approx(record["test"]["head_top1"])
    assert len(run["steps"]) == 2 and run["steps"][-1] == pytest.approx(run["last"])
    assert run["selected"] is None  # there is no validation set
    assert entry["mean"]["last"][0] == (run["last"] + RECORD["test"]["top1"]) / 2
    text = (output / "results.md").read_text()
    assert text.startswith(HEAD)
    assert "| esd  | esd    | reliable | resnet18 |" in text
    assert "Flags of every run: `--dataset FakeData --width 2 --T 2" in text
    assert (output / "results.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_other_flags_does_not_count_as_done(written, tmp_path) -> None:
    own = job.jobs_of(plan.read_plan(written()), tmp_path)[0]
    complete(own)
    assert own.run_folder() == own.folder / "run"
    other = written("num_epoch = 1", "num_epoch = 2")
    assert job.jobs_of(plan.read_plan(other), tmp_path)[0].run_folder() is None


def test_flags_of_an_earlier_plan_find_the_run_of_these_flags(
    written, tmp_path, monkeypatch
) -> None:
    """Learning rates a, b, a in one folder: the last, which only repeats, is not taken for b's."""

    def call(command: list, folder: Path, threads: int, limit: TimeLimit) -> None:
        if command[0] != job.EVALUATE:
            code, text = ending([str(part) for part in command[1:]])
            assert code == 0, text
            with (folder / "output.txt").open("a") as output:
                output.write(text)

    monkeypatch.setattr(job, "_call", call)
    found = []
    for rate in ("0.1", "0.0001", "0.1"):
        path = written("T = 2", f"T = 1\nlr = {rate}")
        own = job.jobs_of(plan.read_plan(path), tmp_path / "out")[0]
        assert job.perform(own, threads=1, limit=TimeLimit(None, [1])) is None
        found.append(own.run_folder())
        config = json.loads((found[-1] / "config.json").read_bytes())
        assert config["arguments"]["lr"] == float(rate)
    assert found[0] == found[2] != found[1]


KILLED = "import os; os.write(2, b'a warning\\n'); os.kill(os.getpid(), 9)"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit('bad luck')", "exit code 1: bad luck"),
        ("raise SystemExit(3)", "exit code 3"),
        (KILLED, "ended by SIGKILL: a warning"),
        ("pass", None),
    ],
)
def test_a_failure_says_how_the_program_ended(program, reason, tmp_path) -> None:
    assert job._call(["-c", program], tmp_path, 1, TimeLimit(None, [])) == reason


def test_an_interrupt_begins_no_further_run(written, stopped, monkeypatch, capsys) -> None:
    started, cancelled, begun = threading.Event(), threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            cancelled.set()
            super().shutdown(wait)

    def perform(own: job.Job, **options) -> str:
        begun.append(own)
        started.set()
        cancelled.wait()  # as a run that saves itself would take its time
        return "exit code 130"

    def interrupted(futures: dict) -> None:
        started.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "as_completed", interrupted)
    monkeypatch.setattr(compare, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(compare, "perform", perform)
    assert stopped(written()) == 130 and len(begun) == 1
    error = capsys.readouterr().err
    assert "the same command goes on" in error and error.count("\n") == 1


# --- numbers -----------------------------------------------------------------------------------


def test_the_epoch_is_selected_on_validation_or_as_published_on_test(tmp_path) -> None:
    accuracies = ((10, 15), (30, 25), (20, 35), (29, 22))  # on validation and test images
    records = [RECORD | {"validation": {"top1": v}, "test": {"top1": t}} for v, t in accuracies]
    records.insert(1, {name: RECORD[name] for name in ("train", "timing")})  # with --eval_every
    leave_run(tmp_path / "run", records)
    found = summary.run_result(tmp_path / "run")
    assert (found["last"], found["selected"], found["best"]) == (22, 25, 35)
    assert found["by_epoch"] == [15, 25, 35, 22] and len(found["reliable"]) == 5


def test_mean_and_sample_deviation() -> None:
    assert summary.mean_and_deviation([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5))
    assert summary.mean_and_deviation([4.0]) == (4.0, None)
    assert summary.mean_and_deviation([4.0, None]) is None


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_epochs_are_whole_numbers_within_the_picture(epochs: int) -> None:
    axes = Figure().subplots()
    entry = {"name": "esd", "mean": {"reliable": [(50.0, 1.0)] * epochs}}
    picture._series(axes, [entry], {"esd": "red"}, "reliable", 0)
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert (low, high) == (-0.5, epochs - 0.5)
    assert shown and all(tick == int(tick) for tick in shown)
