"""A command in this process: the folder it leaves, what it returns, and what it refuses."""

import ctypes
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmark.fault import micro_run
from experiment import engine
from experiment import run as run_module
from experiment.run import check_smallest_batch
from model import build_model
from tests.support.micro_training import (
    ONE_PROCESS,
    MicroData,
    micro_images,
    micro_recipe,
)
from util.checkpoint import load_checkpoint, save_checkpoint
from util.signals import STOP_SIGNALS

ARGUMENTS = (*micro_run.ARGUMENTS, "--num_epoch", "1")


def run(log_path, *more):
    return micro_run.main([*ARGUMENTS, "--log_path", str(log_path), *more])


def refused(capsys, log_path, *more, code=2):
    before = sorted(log_path.rglob("*")) if log_path.exists() else []
    with pytest.raises(SystemExit) as end:
        run(log_path, *more)
    printed = capsys.readouterr().err
    errors = [line for line in printed.splitlines() if not line.startswith("warning: ")]
    assert end.value.code == code
    assert len(errors) == 1 and errors[0].startswith("error: ")
    assert "Traceback" not in printed
    assert (sorted(log_path.rglob("*")) if log_path.exists() else []) == before
    return errors[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(log path, result) of a finished run."""
    log_path = tmp_path_factory.mktemp("finished")
    return log_path, run(log_path)


def test_a_run_leaves_one_folder_with_everything(finished, capsys):
    log_path, result = finished
    (folder,) = log_path.iterdir()
    assert result["folder"] == str(folder)
    assert folder.name.startswith("FakeData_resnet18_T2_esd_seed60_")
    names = {path.name.partition(".tfevents")[0] for path in folder.iterdir()}
    assert names == {".lock", "best.pt", "config.json", "curves.png", "events.out", "last-1.pt",
                     "last.pt", "metrics.jsonl", "train.log"}  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["arguments"]["T"] == 2
    assert config["environment"]["torch"] == torch.__version__.partition("+")[0]
    assert config["environment"]["command"]
    (line,) = (folder / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line)
    assert set(record) == {"epoch", "lr", "train", "test", "timing"}
    assert set(record["train"]) == {"total", "hard", "soft", "reliable", "head_top1"}
    assert set(record["timing"]) == {
        "seconds", "images_per_second", "images_per_second_per_device", "data_wait",
        "peak_memory_mib",
    }  # fmt: skip
    assert len(record["test"]["head_top1"]) == 4
    assert len(record["test"]["firing_rate"]) == 17  # LIF layers of ResNet-18
    assert result["test_top1"] == record["test"]["top1"] == result["best_test_top1"]
    log = (folder / "train.log").read_text()
    assert "device cpu" in log
    assert "INFO finished: test top-1" in log.splitlines()[-1]


def test_a_log_path_is_made_with_its_parents_and_checked_before_data_are_read(
    tmp_path, monkeypatch, capsys
):
    result = run(tmp_path / "new" / "deep" / "folder")
    assert Path(result["folder"]).parent == tmp_path / "new" / "deep" / "folder"
    (tmp_path / "file").touch()
    monkeypatch.setattr(micro_run, "data_of", lambda args: pytest.fail("too late"))
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "file")
    assert end.value.code == 2
    assert f"--log_path {tmp_path / 'file'}: {tmp_path / 'file'} is a" in capsys.readouterr().err


def test_a_run_folder_that_cannot_be_written_is_refused_before_data_are_read(
    finished, monkeypatch, capsys
):
    def read_only(*, dir):
        raise OSError(30, "Read-only file system")

    (folder,) = finished[0].iterdir()
    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(micro_run, "data_of", lambda args: pytest.fail("too late"))
    sentence = refused(capsys, finished[0], "--resume", str(folder / "last.pt"))
    assert f"--resume {folder}: nothing can be written in {folder} (Read-only file" in sentence


def test_without_branches_the_log_says_nothing_of_a_teacher(tmp_path, capsys):
    result = run(tmp_path, "--method", "rate", "--teacher", "soft", "--accum", "2")
    assert "_rate_seed60_" in result["folder"]
    log = (Path(result["folder"]) / "train.log").read_text()
    assert "; train " in log and "--accum 2: batch norm sees 4 images at a time, not" in log
    assert not any(word in log for word in ("reliable", "soft", "distillation"))


def test_tf32_is_what_the_flag_says(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    run(tmp_path, "--no-tf32")
    assert not torch.backends.cudnn.allow_tf32
    run(tmp_path)
    assert torch.backends.cudnn.allow_tf32


def test_checkpoints_are_plain(finished):
    (folder,) = finished[0].iterdir()
    for name in ("last.pt", "best.pt"):
        state = torch.load(folder / name, weights_only=True)
        assert state["epoch"] == 1
        assert state["arguments"]["arch"] == "resnet18"


def test_seeded_runs_repeat_and_other_seeds_differ(finished, tmp_path):
    (first,) = finished[0].iterdir()
    run(tmp_path, "--num_workers", "2", "--val_batch_size", "128")
    (again,) = tmp_path.iterdir()
    assert micro_run.outcome(again) == micro_run.outcome(first)
    other = run(tmp_path, "--seed", "61")
    state = load_checkpoint(os.path.join(other["folder"], "last.pt"))
    key = "stem.conv.weight"
    assert not torch.equal(state["model"][key], load_checkpoint(first / "last.pt")["model"][key])


def test_a_validation_set_chooses_the_best_epoch(tmp_path):
    result = run(tmp_path, "--val_fraction", "0.25", "--no-auto_aug")
    assert result["best_chosen_on"] == "validation"


def test_evaluate_prints_every_head_and_leaves_nothing(finished, capsys, tmp_path):
    (folder,) = finished[0].iterdir()
    result = run(tmp_path, "--evaluate", str(folder / "best.pt"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "branch 1", "branch 2", "branch 3", "spiking network",
    ]  # fmt: skip
    assert result["top1"] == finished[1]["test_top1"]
    assert f"top-1 {result['top1']:.2f} %" in lines[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("changed", ["--T 3", "--arch resnet19", "--width 3", "--dataset Digits",
                                     "--decay 0.5", "--v_reset 0"])  # fmt: skip
@pytest.mark.parametrize("flag", ["--evaluate", "--resume"])
def test_a_checkpoint_of_another_network_is_refused(finished, capsys, flag, changed):
    (folder,) = finished[0].iterdir()
    sentence = refused(capsys, finished[0], flag, str(folder / "last.pt"), *changed.split())
    assert str(folder / "last.pt") in sentence
    assert "(asked for: " in sentence or "belongs to another network" in sentence


def test_evaluate_takes_the_spiking_network_alone(finished, tmp_path):
    (folder,) = finished[0].iterdir()
    result = run(tmp_path, "--evaluate", str(folder / "last.pt"), "--method", "rate")
    assert result["head_top1"] == [finished[1]["test_top1"]]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--v_reset 1", "v_reset"),
        ("--branch_pool 3000", "branch_pool 3000"),
        ("--arch preact_resnet18", "branch_pool 4"),
        ("--device cuda:99", "cuda:99"),
        ("--device meta", "meta"),
        ("--val_fraction 0.001", "validation fraction 0.001"),
        ("--evaluate nowhere.pt", "nowhere.pt does not exist"),
        ("--resume nowhere.pt", "nowhere.pt does not exist"),
        ("--log_path /proc/runs", "--log_path /proc/runs: nothing can be written in /proc"),
        (f"--log_path {__file__}/runs", f"{__file__} is a file"),
    ],
)
def test_what_the_parser_cannot_know_is_refused_too(arguments, part, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert part in refused(capsys, tmp_path / "runs", *arguments.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", bytes(5000)])
@pytest.mark.parametrize("flag", ["--evaluate", "--resume"])
def test_a_corrupt_checkpoint_is_refused(content, flag, capsys, tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    assert "broken.pt" in refused(capsys, tmp_path / "runs", flag, str(path))


def test_missing_data_is_refused_without_a_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    data = tmp_path / "data"
    sentence = refused(capsys, tmp_path / "runs", "--dataset", "CIFAR10", "--data_path", str(data))
    assert str(data) in sentence
    assert list(tmp_path.iterdir()) == []


def few_images(count):
    data = MicroData(micro_images(count, seed=1), micro_images(3, seed=2))
    net = build_model("preact_resnet18", num_classes=5, in_channels=2, T=1, width=2, method="rate")
    return net, data


def test_a_batch_that_cannot_be_normalised_is_refused_beforehand():
    net, data = few_images(9)
    with pytest.raises(ValueError, match="--train_batch_size 4 an epoch of 9 images"):
        check_smallest_batch(net, data, micro_recipe(train_batch_size=4), ONE_PROCESS)
    check_smallest_batch(net, data, micro_recipe(train_batch_size=5), ONE_PROCESS)
    big = build_model("resnet19", num_classes=5, in_channels=2, T=2, width=2)
    before = {name: value.clone() for name, value in big.state_dict().items()}
    check_smallest_batch(big, data, micro_recipe(train_batch_size=4), ONE_PROCESS)
    assert all(torch.equal(value, before[name]) for name, value in big.state_dict().items())


def signal_in_step(monkeypatch, which, numbers):
    """Send `numbers` to this process in the middle of the step `which` of the run."""
    step = engine.refuse_non_finite
    steps = iter(range(1000))

    def signalled(*args):
        if next(steps) == which:
            for number in numbers:
                os.kill(os.getpid(), number)
        return step(*args)

    monkeypatch.setattr(engine, "refuse_non_finite", signalled)


@pytest.fixture
def heeds_hangups():
    """A program under nohup has been started with them ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_the_run_after_its_step(number, heeds_hangups, monkeypatch, tmp_path, capsys):
    signal_in_step(monkeypatch, 2, [number])
    handlers = [signal.getsignal(n) for n in STOP_SIGNALS]
    with pytest.raises(SystemExit) as end:
        run(tmp_path)
    assert end.value.code == 128 + number
    assert "epoch 0, step 3; all is saved" in capsys.readouterr().err
    (folder,) = tmp_path.iterdir()
    assert load_checkpoint(folder / "last.pt")["batch"] == 3
    assert "stopped by" in (folder / "train.log").read_text()
    assert handlers == [signal.getsignal(n) for n in STOP_SIGNALS]


def test_a_second_signal_ends_the_run_at_once(monkeypatch, tmp_path, capsys):
    signal_in_step(monkeypatch, 3, [signal.SIGTERM, signal.SIGINT])
    with pytest.raises(SystemExit) as end:
        run(tmp_path)
    assert end.value.code == 130
    assert "at once" in capsys.readouterr().err
    (folder,) = tmp_path.iterdir()
    assert load_checkpoint(folder / "last.pt")["batch"] == 2  # of --checkpoint_every 2


def run_in_thread(log_path, *more):
    """What `run` returns, or its exit code, in a thread of its own."""
    outcome = []

    def work():
        try:
            outcome.append(run(log_path, *more))
        except SystemExit as end:
            outcome.append(end.code)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return outcome[0]


def test_an_interrupted_thread_finishes_its_step_and_saves(finished, monkeypatch, tmp_path, capsys):
    """As a tuning library may interrupt one; the resumed run is the same run."""
    step, steps = engine.refuse_non_finite, iter(range(1000))
    caller = []

    def interrupted(*args):
        if next(steps) == 2:
            interrupt = ctypes.py_object(KeyboardInterrupt)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(caller[0]), interrupt)
            time.sleep(0.5)  # it is raised in that thread meanwhile
        return step(*args)

    monkeypatch.setattr(engine, "refuse_non_finite", interrupted)
    load = micro_run.few_images
    monkeypatch.setattr(
        micro_run, "few_images", lambda data: caller.append(threading.get_ident()) or load(data)
    )
    assert run_in_thread(tmp_path) == 130
    said = capsys.readouterr()
    assert "outside the main thread no signal stops" in said.out
    assert "stopped by SIGINT at epoch 0, step 3; all is saved" in said.err
    (folder,) = tmp_path.iterdir()
    assert load_checkpoint(folder / "last.pt")["batch"] == 3
    assert run_in_thread(tmp_path, "--resume", "auto") == {**finished[1], "folder": str(folder)}
    (whole,) = finished[0].iterdir()
    assert micro_run.outcome(folder) == micro_run.outcome(whole)


def test_a_non_finite_loss_ends_the_run_with_code_1(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run(tmp_path, "--lr", "1e30")
    assert end.value.code == 1
    assert "is not finite" in capsys.readouterr().err.splitlines()[-1]
    (folder,) = tmp_path.iterdir()
    assert "is not finite" in (folder / "train.log").read_text()


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(monkeypatch, tmp_path, capsys):
    from util import checkpoint_history

    write, saves = checkpoint_history.write_atomically, iter(range(100))

    def filling(path, payload, **options):
        if next(saves) == 1:
            raise OSError(28, "No space left on device", str(path))
        return write(path, payload, **options)

    monkeypatch.setattr(checkpoint_history, "write_atomically", filling)
    with pytest.raises(SystemExit) as end:
        run(tmp_path)
    assert end.value.code == 1
    assert "last.pt: No space left on device" in capsys.readouterr().err
    (folder,) = tmp_path.iterdir()
    assert load_checkpoint(folder / "last.pt")["batch"] == 2


def test_a_folder_that_goes_when_the_training_has_ended_is_named(monkeypatch, tmp_path, capsys):
    def train_and_delete(folder, *more, **options):
        train_in(folder, *more, **options)
        shutil.rmtree(folder)

    train_in = run_module.train_in
    monkeypatch.setattr(run_module, "train_in", train_and_delete)
    sentence = refused(capsys, tmp_path, code=1)
    assert re.search(r"seed60_\S+metrics.jsonl holds 0 of 1 records: it was deleted", sentence)


def test_a_checkpoint_without_a_run_is_refused(tmp_path, capsys):
    save_checkpoint({"model": {}}, tmp_path / "odd.pt")
    sentence = refused(capsys, tmp_path / "runs", "--resume", str(tmp_path / "odd.pt"))
    assert "belongs to another network" in sentence
