"""A comparison: a wrong plan is refused at once, a right one is run once and goes on."""

import json
import shlex
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from benchmark import compare
from benchmark.comparison import job, picture, plan, summary
from benchmark.comparison.limit import TimeLimit
from benchmark.fault.damage import ending
from tests.support.comparison import EVALUATION, PLAN, RECORD, complete
from util.checkpoint import save_checkpoint

PLANS = Path(compare.__file__).parent / "plan"


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_plan_of_the_project_is_understood(path: Path) -> None:
    found = plan.read_plan(path)
    assert len(found.rows) >= 2
    epochs = {row.arguments["num_epoch"] for row in found.rows}
    assert len(epochs) == 1  # or the rows could not be compared
    for line in path.read_text().splitlines():
        if line.startswith("#   python benchmark/compare.py "):
            args = compare.get_parser().parse_args(shlex.split(line)[3:])
            assert args.plan.name == path.name


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("seeds = [1, 2]", "seeds = [1, 1]"), "seeds is [1, 1], expected different whole"),
        (("seeds = [1, 2]", ""), "seeds is []"),
        (
            ("seeds = [1, 2]", 'experiment = "mnist"'),
            "experiment is 'mnist', expected one of cifar",
        ),
        (("width = 2", "widht = 2"), "row esd: 'widht' is no flag of the main; flags are"),
        (("width = 2", "seed = 2"), "'seed' is set by the comparison"),
        (('name = "sltt"', 'name = "esd"'), "row 2 has the name 'esd', expected one of its own"),
        (("[flags]", "[flag]"), "unknown key 'flag', expected experiment, flags, row, seeds"),
        (("[flags]", "[flags"), "is not a TOML file"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_runs(tmp_path, capsys, change, sentence) -> None:
    path, output = tmp_path / "plan.toml", tmp_path / "out"
    path.write_text(PLAN.replace(*change))
    with pytest.raises(SystemExit) as stop:
        compare.main(["--plan", str(path), "--output", str(output)])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not output.exists()


def test_a_file_that_is_no_plan_is_named(tmp_path, capsys) -> None:
    """And so is an --output that cannot be made, before anything runs."""
    checkpoint, path = tmp_path / "best.pt", tmp_path / "plan.toml"
    save_checkpoint({"model": {}}, checkpoint)
    path.write_text(PLAN)
    for chosen, output, sentence in (
        (checkpoint, tmp_path / "out", f"{checkpoint} is a file of torch.save, as checkpoints are"),
        (path, path / "out", f"--output {path / 'out'}: {path} is a file; name another folder"),
    ):
        with pytest.raises(SystemExit) as stop:
            compare.main(["--plan", str(chosen), "--output", str(output)])
        assert stop.value.code == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_paths_in_a_plan_are_those_of_a_command_line(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace("[flags]", '[flags]\ndata_path = "~/data"'))
    assert plan.read_plan(path).rows[0].arguments["data_path"] == Path("/somewhere/data")
    path.write_text(PLAN.replace("[flags]", '[flags]\ndata_path = ""'))
    with pytest.raises(SystemExit):
        plan.read_plan(path)
    assert "argument --data_path: expected a path" in capsys.readouterr().err


def test_a_wrong_value_is_refused_by_the_mains_own_parser(tmp_path, capsys) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace('method = "sltt"', 'method = "stdp"'))
    with pytest.raises(SystemExit):
        plan.read_plan(path)
    error = capsys.readouterr().err
    assert "stdp" in error and f"(the flags of row sltt in {path})" in error


@pytest.mark.slow
def test_a_comparison_is_done_once_and_its_numbers_are_the_runs(tmp_path, capsys) -> None:
    path, output = tmp_path / "plan.toml", tmp_path / "out"
    path.write_text(PLAN[: PLAN.rindex("[[row]]")])  # one row is enough
    command = ["--plan", str(path), "--output", str(output)]
    entries = compare.main(command)
    files = {p: p.stat().st_mtime_ns for p in output.glob("runs/**/*") if p.is_file()}
    for entry in entries:
        assert set(entry["runs"]) == {1, 2} and not entry["problems"]
        for seed, run in entry["runs"].items():
            (metrics,) = output.glob(f"runs/{entry['name']}/seed{seed}/*/metrics.jsonl")
            (record,) = (json.loads(line) for line in metrics.read_text().splitlines())
            assert run["last"] == run["best"] == record["test"]["top1"]
            assert run["heads"] == pytest.approx(record["test"]["head_top1"])
            assert len(run["steps"]) == 2 and run["steps"][-1] == pytest.approx(run["last"])
            assert run["selected"] is None  # there is no validation set
    text = (output / "results.md").read_text()
    assert text.startswith("# Comparison: plan\n\n    python benchmark/compare.py --plan")
    assert "| esd | esd | reliable |" in text
    assert (output / "results.png").read_bytes().startswith(b"\x89PNG")

    shutil.rmtree(output / "runs" / "esd" / "seed2")  # as if stopped before the last run
    again = compare.main(command)
    assert [e["mean"]["last"] for e in again] == [e["mean"]["last"] for e in entries]
    kept = {p: p.stat().st_mtime_ns for p in files if p.exists()}
    assert 0 < len(kept) < len(files)  # and none of the complete one was touched
    assert all(files[p] == t for p, t in kept.items() if "esd/seed2" not in str(p))


def test_a_failed_run_is_named_and_the_others_count(tmp_path, monkeypatch, capsys) -> None:
    def perform(own: job.Job, **options) -> str | None:
        return "error: out of luck" if own.seed == 2 else complete(own)

    monkeypatch.setattr(compare, "perform", perform)
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    with pytest.raises(SystemExit) as stop:
        compare.main(["--plan", str(path), "--output", str(tmp_path / "out")])
    assert stop.value.code == 1
    text = (tmp_path / "out" / "results.md").read_text()
    assert text.startswith("# Comparison: plan\n\n    python benchmark/compare.py --plan")
    assert "Failed: esd, seed 2: error: out of luck" in text
    assert "| esd | esd | reliable | resnet18 | 2 | 1 | 50.00 | 50.00 |" in text


def test_a_run_of_other_flags_does_not_count_as_done(tmp_path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    own = job.jobs_of(plan.read_plan(path), tmp_path)[0]
    (own.folder / "run").mkdir(parents=True)
    (own.folder / "done.json").write_text(json.dumps({"flags": own.flags, "run": "run"}))
    assert own.run_folder() == own.folder / "run"
    path.write_text(PLAN.replace("num_epoch = 1", "num_epoch = 2"))
    assert job.jobs_of(plan.read_plan(path), tmp_path)[0].run_folder() is None


def test_the_epoch_is_selected_on_validation_or_as_published_on_test(tmp_path) -> None:
    records = [
        RECORD | {"validation": {"top1": v}, "test": {"top1": t}}
        for v, t in ((10, 15), (30, 25), (20, 35), (29, 22))
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "evaluate").mkdir()
    (tmp_path / "evaluate" / "evaluate.json").write_text(json.dumps(EVALUATION))
    found = summary.run_result(tmp_path)
    assert (found["last"], found["selected"], found["best"]) == (22, 25, 35)


def test_mean_and_sample_deviation() -> None:
    assert summary.mean_and_deviation([1.0, 2.0, 6.0]) == pytest.approx((3.0, 7**0.5))
    assert summary.mean_and_deviation([4.0]) == (4.0, None)
    assert summary.mean_and_deviation([4.0, None]) is None


def test_flags_of_an_earlier_plan_find_the_run_of_these_flags(tmp_path, monkeypatch) -> None:
    """Learning rates a, b, a in one folder: the last, which only repeats, is not taken for b's."""

    def call(command: list, folder: Path, threads: int, limit: TimeLimit) -> None:
        if command[0] != job.EVALUATE:
            _, *argv = map(str, command)
            code, text = ending(argv)
            assert code == 0, text
            with (folder / "output.txt").open("a") as output:
                output.write(text)

    monkeypatch.setattr(job, "_call", call)
    path, found = tmp_path / "plan.toml", []
    for rate in ("0.1", "0.0001", "0.1"):
        path.write_text(PLAN.replace("T = 2", f"T = 1\nlr = {rate}"))
        own = job.jobs_of(plan.read_plan(path), tmp_path / "out")[0]
        assert job.perform(own, threads=1, limit=TimeLimit(None, [1])) is None
        found.append(own.run_folder())
        config = json.loads((found[-1] / "config.json").read_bytes())
        assert config["arguments"]["lr"] == float(rate)
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit('bad luck')", "exit code 1: bad luck"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.write(2, b'a warning\\n'); os.kill(os.getpid(), 9)",
         "ended by SIGKILL: a warning"),
        ("pass", None),
    ],
)  # fmt: skip
def test_a_failure_says_how_the_program_ended(program, reason, tmp_path) -> None:
    assert job._call(["-c", program], tmp_path, 1, TimeLimit(None, [])) == reason


def test_an_interrupt_begins_no_further_run(tmp_path, monkeypatch, capsys) -> None:
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
    path = tmp_path / "plan.toml"
    path.write_text(PLAN)
    with pytest.raises(SystemExit) as stop:
        compare.main(["--plan", str(path), "--output", str(tmp_path / "out")])
    assert stop.value.code == 130 and len(begun) == 1
    error = capsys.readouterr().err
    assert "the same command goes on" in error and error.count("\n") == 1


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_epochs_are_whole_numbers_within_the_picture(epochs: int) -> None:
    axes = Figure().subplots()
    entry = {"name": "esd", "mean": {"reliable": [(50.0, 1.0)] * epochs}}
    picture._series(axes, [entry], {"esd": "red"}, "reliable", 0)
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert (low, high) == (-0.5, epochs - 0.5)
    assert shown and all(tick == int(tick) for tick in shown)
