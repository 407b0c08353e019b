"""Runs that an earlier call found are not repeated; what is no such run is not taken for one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.comparison import compare, job, report
from tests.support.comparison import PLAN, leave_run

ROWS = ("esd", "sltt")


@pytest.fixture
def command(tmp_path, monkeypatch) -> Callable[..., dict]:
    """Runs PLAN, changed by a word, into a folder; the results, and in `begun` what was trained."""
    begun: list[tuple[str, str]] = []

    def call(words: list, folder: Path, threads: int, limit: object) -> None:
        if words[0] != job.EVALUATE:
            assert words[-4:-2] == ["--log_path", folder]
            begun.append((folder.parent.name, folder.name))
            leave_run(folder / "run")
            (folder / job.OUTPUT).write_text(f"run folder {folder / 'run'}; device cpu\n")

    monkeypatch.setattr(job, "_call", call)
    monkeypatch.setattr(report, "picture", lambda *args: b"")

    def run(folder: str, *flags: object, change: tuple[str, str] = ("", "")) -> dict:
        begun.clear()
        path = tmp_path / "plan.toml"
        path.write_text(PLAN.replace(*change) if change[0] else PLAN)
        output = tmp_path / folder
        compare.main(["--plan", str(path), "--output", str(output), *map(str, flags)])
        return json.loads((output / "results.json").read_bytes())

    run.begun = begun
    return run


def pairs(record: dict, key: str = "runs") -> set[tuple[str, str]]:
    return {(row["name"], seed) for row in record["rows"] for seed in row[key]}


ALL = {(name, seed) for name in ROWS for seed in ("1", "2")}


def test_known_runs_start_no_program_and_stay_as_they_are(command, tmp_path) -> None:
    first = command("a")
    assert len(command.begun) == 4 and pairs(first) == ALL
    file = tmp_path / "a" / "results.json"
    changed = file.read_text().replace('"device": "AMD EPYC"', '"device": "H100"')
    file.write_text(changed)
    second = command("b", "--known", file)
    assert command.begun == [] and not (tmp_path / "b" / "runs").exists()
    assert second["rows"] == json.loads(changed)["rows"]  # complete, and so to be known again
    assert "device H100: seeds 1, 2" in (tmp_path / "b" / "results.md").read_text()


def test_what_is_not_known_is_run_and_joined(command, tmp_path, capsys) -> None:
    command("a", change=("[1, 2]", "[2, 7]"))
    capsys.readouterr()
    found = command("b", "--known", tmp_path / "a" / "results.json")
    assert sorted(command.begun) == [("esd", "seed1"), ("sltt", "seed1")]
    assert pairs(found) == ALL
    lines = [line for line in capsys.readouterr().out.splitlines() if "results.json: " in line]
    assert len(lines) == 1 and lines[0].endswith("with the same flags: esd 7, sltt 7")


def test_a_question_that_is_asked_later_is_answered_from_known_runs(command, tmp_path) -> None:
    command("a")
    asked = 'primary = "area"\ncontrasts = [["sltt", "esd"]]\nseeds'
    found = command("b", "--known", tmp_path / "a" / "results.json", change=("seeds", asked))
    (verdict,) = found["contrasts"]
    assert (verdict["metric"], verdict["pairs"], verdict["planned"]) == ("area", 2, 2)
    text = (tmp_path / "b" / "results.md").read_text()
    assert text.startswith("# Comparison: plan\n\n**Primary: area, sltt - esd: +0.00 points**")
    assert "### Other contrasts" not in text and command.begun == []


@pytest.mark.parametrize(
    ("change", "begun", "said"),
    [
        (("width = 2", "width = 3"), 4, "esd 1, sltt 1, esd 2, sltt 2"),
        (('name = "sltt"', 'name = "online"'), 2, "sltt 1, sltt 2"),
        (('method = "sltt"', 'method = "rate"'), 2, "sltt 1, sltt 2"),
        (("seeds", 'experiment = "cifar"\nseeds'), 0, None),
    ],
)
def test_runs_of_other_flags_are_named_and_not_used(
    command, tmp_path, capsys, change, begun, said
) -> None:
    command("a")
    capsys.readouterr()
    command("b", "--known", tmp_path / "a" / "results.json", change=change)
    printed = capsys.readouterr().out
    assert len(command.begun) == begun
    assert ("same flags: " in printed) == (said is not None)
    if said is not None:
        line = next(line for line in printed.splitlines() if "same flags: " in line)
        assert sorted(line.partition("flags: ")[2].split(", ")) == sorted(said.split(", "))


def test_of_several_files_the_first_counts_and_a_run_folder_before_them(command, tmp_path) -> None:
    files = [tmp_path / "a" / "results.json", tmp_path / "changed.json"]
    command("a")
    changed = files[0].read_text().replace('"last": 50.0', '"last": 60.0')
    files[1].write_text(changed)
    for order, last in ((files, 50), (files[::-1], 60)):
        found = command(f"b{last}", "--known", *order)
        assert {run["last"] for row in found["rows"] for run in row["runs"].values()} == {last}
    found = command("a", "--known", files[1])
    assert {run["last"] for row in found["rows"] for run in row["runs"].values()} == {50}


# --- some of the seeds -------------------------------------------------------------------------


def test_some_seeds_are_run_and_known_ones_stay(command, tmp_path) -> None:
    found = command("a", "--seeds", 2)
    assert {seed for _, seed in command.begun} == {"seed2"} and found["seeds"] == [2]
    text = (tmp_path / "a" / "results.md").read_text()
    assert "1 of the 2 planned seeds (2): --seeds left out others." in text
    found = command("b", "--seeds", 1, "--known", tmp_path / "a" / "results.json")
    assert {seed for _, seed in command.begun} == {"seed1"}
    assert pairs(found) == ALL and found["note"] is None


def test_known_runs_of_no_whole_seed_are_kept_beside_the_tables(command, tmp_path) -> None:
    command("a", change=('\n[[row]]\nname = "sltt"\nmethod = "sltt"', ""))  # esd alone
    file = tmp_path / "a" / "results.json"
    found = command("b", "--seeds", 1, "--known", file)
    assert command.begun == [("sltt", "seed1")]
    assert pairs(found) == {("esd", "1"), ("sltt", "1")}
    assert pairs(found, "left_out") == {("esd", "2")}
    command("c", "--known", tmp_path / "b" / "results.json")
    assert command.begun == [("sltt", "seed2")]


# --- wrong files -------------------------------------------------------------------------------


def without(key: str) -> str:
    run = {"experiment": "cifar", "flags": [], "environment": {}} | {key: 1}
    return json.dumps({"rows": [{"name": "esd", "runs": {"1": run}}]})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no such file, expected the results.json of a comparison"),
        ("{", "is something else: expected the results.json of a comparison"),
        ("[]", "is something else"),
        ('{"rows": [{"name": "esd"}]}', "is something else"),
        ('{"rows": [{"name": "esd", "runs": {"1": 3}}]}', "is something else"),
        (without("last"), "the run esd, seed 1 lacks area, best, by_epoch, ema, heads,"),
        ((job.ROOT / "docs/comparison/fashion_epochs.json").read_text(), "of an earlier version"),
    ],
)
def test_a_file_of_other_things_is_refused(command, tmp_path, capsys, content, sentence) -> None:
    path = tmp_path / "known.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as stop:
        command("out", "--known", path)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and sentence in error and error.count("\n") == 1
    assert command.begun == [] and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("steps", value) for value in (None, 3, ["many"], [[1]])),
        *(("last", value) for value in (None, "many", float("nan"), True)),
        *(("environment", value) for value in ({}, None, [])),
        ("samples", "all"),
    ],
)
def test_a_value_that_no_run_has_is_refused(command, tmp_path, capsys, key, value) -> None:
    command("a")
    content = json.loads((tmp_path / "a" / "results.json").read_bytes())
    content["rows"][1]["runs"]["2"][key] = value
    (tmp_path / "known.json").write_text(json.dumps(content))
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        command("out", "--known", tmp_path / "known.json")
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"the run sltt, seed 2 has {key} {value!r}" in error


def test_a_known_run_of_other_time_steps_is_not_used(command, tmp_path) -> None:
    command("a")
    content = json.loads((tmp_path / "a" / "results.json").read_bytes())
    content["rows"][0]["runs"]["1"]["steps"] = [10.0]
    (tmp_path / "known.json").write_text(json.dumps(content))
    command("b", "--known", tmp_path / "known.json")
    assert command.begun == [("esd", "seed1")]


def test_a_seed_that_is_not_planned_is_refused(command, capsys) -> None:
    with pytest.raises(SystemExit):
        command("out", "--seeds", 1, 9)
    assert "--seeds: 9 is no seed of the plan, expected of 1, 2" in capsys.readouterr().err
