"""The table of runs: each number of each, in every state, and none that a damaged one hides."""

import csv
import fcntl
import json
import threading
from types import SimpleNamespace

import pytest

from experiment.dvs import main as dvs
from experiment.train.failure import Stopped
from experiment.train.folder import is_held, locked
from experiment.trained import runs as command
from experiment.trained.part import runs_picture
from experiment.trained.part.recorded_run import STOPPED, read_run
from experiment.trained.runs import clock_time, main
from tests.support import finished_run
from tests.support.recorded import record_of, sparsely, write_run

SMALL = ("--dataset", "Digits", "--num_epoch", "2")


@pytest.fixture
def folder(tmp_path):
    """Four runs: finished, failed, stopped and killed before its first epoch was over."""
    validated = [record_of(i) | {"validation": {"top1": 50.0 - i}} for i in range(2)]
    write_run(tmp_path / "runs" / "a", *SMALL, records=validated, log="INFO finished: x")
    write_run(tmp_path / "runs" / "bb" / "b", *SMALL, "--lr", "1", log="ERROR disk full")
    stopped = "ERROR stopped by SIGTERM at epoch 1, step 3; all is saved"
    write_run(
        tmp_path / "runs" / "c", *SMALL, "--T", "4", records=[record_of(0, top1=60.0)], log=stopped
    )
    write_run(tmp_path / "runs" / "d", *SMALL, "--width", "8")
    return tmp_path / "runs"


def test_every_run_is_a_row(folder, capsys):
    rows = {row["run"].rpartition("/")[2]: row for row in main([folder, "--show", "lr"])}
    assert [rows[name]["state"] for name in "abcd"] == [
        *("finished", "failed", "interrupted", "interrupted")
    ]
    a, c = rows["a"], rows["c"]
    assert (a["epochs"], a["num_epoch"], a["best_epoch"], a["validation"]) == (2, 2, 0, 50.0)
    assert (a["last"], a["best"]) == (43.0, 42.0)  # the best of the validation set
    assert (a["seconds"], a["peak_memory_mib"]) == (122.0, 501.0)
    assert (c["T"], c["lr"], c["epochs"], c["best"], c["validation"]) == (4, 0.1, 1, 60.0, None)
    assert rows["b"]["last"] is None and rows["d"]["width"] == 8
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("| a "))
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        *("a", "Digits", "resnet18", "esd", "6", "", "60", "0.1", "2/2", "43.00", "42.00 (0)"),
        *("50.00", "0:02:02", "501", "finished"),
    ]
    assert "bb/b: disk full\n" in printed and "stopped by SIGTERM at epoch 1" in printed


def test_what_was_not_evaluated_is_no_best_and_no_hole(tmp_path, monkeypatch):
    """Of a run with --eval_every; of one before its first evaluation nothing is known of a test."""
    drawn, plot = [], runs_picture.plot_over
    monkeypatch.setattr(
        runs_picture, "plot_over", lambda *a, **k: drawn.append(a[1:]) or plot(*a, **k)
    )
    whole = [record_of(i, top1=90.0 - 2 * i) for i in range(5)]
    write_run(tmp_path / "a", *SMALL, "--num_epoch", "5", records=sparsely(whole, 2))
    write_run(tmp_path / "b", *SMALL, "--num_epoch", "5", records=sparsely(whole, 2)[:1])
    a, b = main([tmp_path, "--sort", "best", "--picture", tmp_path / "runs.png"])
    assert (a["epochs"], a["last"], a["best"], a["best_epoch"]) == (5, 82.0, 88.0, 1)
    assert (b["epochs"], b["last"], b["best"], b["best_epoch"]) == (1, None, None, None)
    assert a["seconds"] == 5 * b["seconds"] and b["peak_memory_mib"] == 500.0
    assert drawn[0] == ([1, 3, 4], [88.0, 84.0, 82.0]) and drawn[2] == ([], [])
    assert [len(epochs) for epochs, _ in drawn] == [3, 5, 0, 1]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], "abcd"),
        (["--reverse"], "dcba"),
        (["--sort", "best", "--reverse"], "cabd"),  # without a number last
        (["--sort", "T"], "cabd"),
        (["--sort", "width"], "dabc"),
        (["--sort", "state"], "bacd"),
        (["--filter", "T=4"], "c"),
        (["--filter", "lr=1.0", "state=failed"], "b"),
        (["--filter", "width=none", "state=finished"], "a"),
        (["--show", "lr", "--sort", "lr", "--reverse"], "bdca"),
    ],
)
def test_rows_are_chosen_and_sorted(folder, flags, names):
    found = [row["run"].rpartition("/")[2] for row in main([folder, *flags])]
    assert "".join(found) == names


def test_runs_of_several_experiments_are_listed_together(folder):
    """A flag that only one of them has is empty for the others."""
    write_run(folder / "e", "--split", "tebn", experiment=dvs)
    rows = main([folder, "--show", "split", "crop", "--sort", "split"])
    assert [row["split"] for row in rows] == ["tebn", None, None, None, None]
    (row,) = main([folder, "--filter", "split=tebn"])
    assert row["dataset"] == "CIFAR10_DVS"


def test_a_run_is_in_progress_while_its_folder_is_held(folder):
    run = folder / "d"
    assert not is_held(run)
    with locked(run):
        assert is_held(run)
        assert read_run(run).state() == ("in progress", None)
        (row,) = main([run])
        assert row["state"] == "in progress"
    assert not is_held(run)
    with open(run / ".lock") as look:  # at the very moment at which a training begins
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.05, look.close).start()
        with locked(run):
            pass


def test_a_run_as_it_is_left(tmp_path):
    folder = finished_run.run(tmp_path).folder
    (row,) = main([tmp_path])
    assert row["run"] == str(folder) and row["state"] == "finished"
    assert 0 < row["seconds"] < 600 and 100 < row["peak_memory_mib"] < 1e5


def test_the_sentence_of_a_stopped_run_is_known():
    request = SimpleNamespace(requested="SIGTERM", exit_code=143)
    assert str(Stopped(request, "epoch 1, step 3")).startswith(STOPPED)


def test_a_run_that_failed_and_went_on_has_no_reason(folder):
    with open(folder / "bb" / "b" / "train.log", "a") as log:
        log.write("\n2026-01-02 03:06 INFO going on from last.pt\n")
    assert read_run(folder / "bb" / "b").state() == ("interrupted", None)


def test_damaged_folders_are_named_and_others_passed_over(folder, capsys):
    for name, text in (("e", "{"), ("f", "[]"), ("g", '{"identity": 3}')):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(text)
    (folder / "h").mkdir()
    (folder / "h" / "train.log").touch()  # killed before it wrote more
    damaged = [{"epoch": 0}, record_of(1)]  # which neither the last nor the best shows
    (folder / "c" / "metrics.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in damaged))
    (folder / "a" / "metrics.jsonl").write_bytes(
        (folder / "a" / "metrics.jsonl").read_bytes() + b'{"epoch": 2, "tra'
    )
    rows = main([folder])
    assert [row["run"].rpartition("/")[2] for row in rows] == ["a", "b", "d"]
    printed = capsys.readouterr().out
    for name, words in (("e", "config.json is damaged"), ("g", "is damaged"), ("c", "is damaged")):
        assert f"{folder / name}" in printed and words in printed
    assert f"{folder / 'h'} has no config.json of a run" in printed
    assert str(folder / "f") not in printed  # of another program


def test_the_table_goes_into_files(folder, tmp_path):
    rows = main([folder, "--csv", tmp_path / "t.csv", "--json", tmp_path / "t.json"])
    assert json.loads((tmp_path / "t.json").read_bytes()) == rows
    with open(tmp_path / "t.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["last"] for row in read] == ["43.0", "", "60.0", ""]
    assert list(read[0]) == list(rows[0])


def test_the_picture_names_a_run_by_what_differs(folder, tmp_path):
    write_run(folder / "e", *SMALL, records=[record_of(0)])
    begun = [read_run(folder / name) for name in "ac"]
    assert runs_picture.distinct_names(begun, command.SETTINGS) == ["T 6", "T 4"]
    same = [*begun, read_run(folder / "e")]
    assert runs_picture.distinct_names(same, command.SETTINGS) == ["a", "c", "e"]
    main([folder, "--picture", tmp_path / "curves.png"])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere: name one with runs"),
        (["empty"], "there is no such run"),
        (["runs", "--filter", "T=5"], "there is no such run"),
        (["runs", "--filter", "T"], "expected NAME=VALUE, such as dataset=Digits: 'T'"),
        (["runs", "--filter", "speed=1"], "there is no flag --speed"),
        (["runs", "--show", "speed"], "there is no flag --speed"),
        (["runs", "--sort", "speed"], "--sort speed: expected one of run, dataset, "),
        (["runs/d", "--picture", "x.png"], "--picture: no run has a complete epoch yet"),
        (["runs", "--csv", "empty"], "could not write empty"),
    ],
)
def test_wrong_input_ends_with_a_sentence_and_code_2(folder, monkeypatch, capsys, flags, sentence):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        main(flags)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (9e4, "25:00:00")]
)
def test_hours_are_counted_on(seconds, text):
    assert clock_time(seconds) == text
