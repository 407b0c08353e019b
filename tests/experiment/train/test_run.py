"""A command in this process: the folder it leaves, what it returns, and what it refuses."""

import ctypes
import json
import shlex
import shutil
import signal
import tempfile
import threading
import time

import pytest
import torch

from experiment import curves
from experiment.train.folder import evaluated, read_records
from experiment.train.preflight import check_smallest_batch
from experiment.train.update import Update
from experiment.trained import runs, track
from model import build_model
from tests.fault import micro_run
from tests.support.finished_run import command, folder_in, refusal, run
from tests.support.micro_training import MicroData, micro_images, micro_recipe, micro_training
from util.checkpoint import load_checkpoint
from util.process.signals import STOP_SIGNALS

FILES = "best.pt config.json curves.png events.out last-1.pt last.pt metrics.jsonl train.log"
TIMING = (
    "seconds cpu_seconds images_per_second images_per_second_per_device data_wait peak_memory_mib"
)


def test_a_run_leaves_one_folder_with_everything(finished):
    folder, result = finished
    assert folder == folder_in(folder.parent)
    assert folder.name.startswith("FakeData_vgg11_T2_esd_seed60_")
    names = {path.name.partition(".tfevents")[0] for path in folder.iterdir()}
    assert names == {".lock", *FILES.split()}
    config = json.loads((folder / "config.json").read_text())
    assert config["arguments"]["T"] == 2
    assert config["environment"]["torch"] == torch.__version__.partition("+")[0]
    assert config["environment"]["command"]
    *_, record = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    assert set(record) == {"epoch", "lr", "train", "test", "timing"}
    assert set(record["train"]) == {"total", "hard", "soft", "reliable", "head_top1"}
    assert set(record["timing"]) == set(TIMING.split())
    assert len(record["test"]["head_top1"]) == 4
    assert len(record["test"]["firing_rate"]) == 8  # spiking layers of VGG-11
    assert result["epochs"] == 2 and result["test_top1"] == record["test"]["top1"]
    log = (folder / "train.log").read_text()
    assert "device cpu" in log
    assert "INFO finished: test top-1" in log.splitlines()[-1]
    for name in ("last.pt", "best.pt"):
        assert torch.load(folder / name, weights_only=True)["arguments"]["arch"] == "vgg11"


def test_seeded_runs_repeat_and_other_seeds_differ(finished, tmp_path):
    again = run(tmp_path / "new" / "deep", "--num_workers", "2", "--val_batch_size", "128")
    assert again.folder.parent == tmp_path / "new" / "deep"
    assert micro_run.outcome(again.folder) == micro_run.outcome(finished.folder)
    other = run(tmp_path, "--num_epoch", "1", "--seed", "61", "--val_fraction", "0.25")
    assert other.result["best_chosen_on"] == "validation"
    one, two = (load_checkpoint(x.folder / "last.pt")["model"] for x in (again, other))
    assert not torch.equal(one["stem.conv.weight"], two["stem.conv.weight"])


def test_without_branches_the_log_says_nothing_of_a_teacher(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    flags = "--num_epoch 1 --method rate --teacher soft --accum 2 --no-tf32"
    folder, _ = run(tmp_path, *flags.split())
    assert not torch.backends.cudnn.allow_tf32
    assert "_rate_seed60_" in folder.name
    log = (folder / "train.log").read_text()
    assert "; train " in log and "--accum 2: batch norm sees 4 images at a time, not" in log
    assert not any(word in log for word in ("reliable", "soft", "distillation"))


def test_evaluate_prints_every_head_and_leaves_nothing(finished, capsys, tmp_path):
    last = ("--evaluate", str(finished.folder / "last.pt"))
    result = micro_run.main(command(tmp_path, *last))
    lines = capsys.readouterr().out.splitlines()
    heads = ["branch 1", "branch 2", "branch 3", "spiking network"]
    assert [line.partition(":")[0] for line in lines] == heads
    assert result["top1"] == finished.result["test_top1"]
    assert f"top-1 {result['top1']:.2f} %" in lines[-1]
    alone = micro_run.main(command(tmp_path, *last, "--method", "rate"))
    assert alone["head_top1"] == [result["top1"]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--v_reset 1", "v_reset"),
        ("--branch_pool 3000", "branch_pool 3000"),
        ("--T_min 3", "--T_min 3 is above --T 2: expected a number from 1 to it"),
        ("--arch preact_resnet18", "branch_pool 4"),
        ("--device cuda:99", "cuda:99"),
        ("--device meta", "meta"),
        ("--warmup 2.5", "--warmup 2.5 is longer than the training, --num_epoch 2: expected"),
        ("--val_fraction 0.001", "validation fraction 0.001"),
        ("--evaluate nowhere.pt", "nowhere.pt does not exist"),
        ("--resume nowhere.pt", "nowhere.pt does not exist"),
        ("--dataset CIFAR10 --data_path data", "CIFAR10 is not in data (fetching it failed"),
        ("--log_path /proc/runs", "--log_path /proc/runs: nothing can be written in /proc"),
        (f"--log_path {__file__}/runs", f"{__file__} is a file"),
    ],
)
def test_what_the_parser_cannot_know_is_refused_too(arguments, part, tmp_path, monkeypatch):
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.chdir(tmp_path)
    assert part in refusal(tmp_path / "runs", *arguments.split())
    assert list(tmp_path.iterdir()) == []


def test_a_warm_up_that_is_too_long_is_refused_before_data_are_read(
    finished, tmp_path, monkeypatch
):
    monkeypatch.setattr(micro_run, "data_of", lambda args: pytest.fail("too late"))
    assert "--warmup 2.01 is longer" in refusal(tmp_path, "--warmup", "2.01")
    with pytest.raises(pytest.fail.Exception):
        run(tmp_path, "--warmup", "2")
    last = str(finished.folder / "last.pt")
    with pytest.raises(pytest.fail.Exception):
        run(tmp_path, "--warmup", "3", "--evaluate", last)  # of no effect


@pytest.mark.parametrize("flag", ["--log_path", "--resume"])
def test_a_folder_that_cannot_be_written_is_refused_before_data_are_read(
    flag, finished, tmp_path, monkeypatch
):
    def read_only(*, dir):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    monkeypatch.setattr(micro_run, "data_of", lambda args: pytest.fail("too late"))
    folder, path = tmp_path, tmp_path
    if flag == "--resume":
        folder, path = finished.folder, finished.folder / "last.pt"
    sentence = refusal(tmp_path, flag, str(path))
    assert f"{flag} {folder}: nothing can be written in {folder} (Read-only file" in sentence


def test_a_batch_that_cannot_be_normalised_is_refused_beforehand():
    data = MicroData(micro_images(9, seed=1), micro_images(3, seed=2))
    options = {"num_classes": 5, "in_channels": 2, "width": 2}
    net = build_model("preact_resnet18", T=1, method="rate", **options)
    with pytest.raises(ValueError, match="--train_batch_size 4 an epoch of 9 images"):
        check_smallest_batch(net, micro_training(micro_recipe(train_batch_size=4), data))
    check_smallest_batch(net, micro_training(micro_recipe(train_batch_size=5), data))
    net = build_model("preact_resnet18", T=2, method="rate", **options)
    check_smallest_batch(net, micro_training(micro_recipe(train_batch_size=4), data))
    with pytest.raises(ValueError, match="nothing to normalise there at 1 of 2 time steps"):
        check_smallest_batch(net, micro_training(micro_recipe(train_batch_size=4, T_min=1), data))
    big = build_model("resnet19", T=2, **options)
    before = {name: value.clone() for name, value in big.state_dict().items()}
    check_smallest_batch(big, micro_training(micro_recipe(train_batch_size=4), data))
    assert all(torch.equal(value, before[name]) for name, value in big.state_dict().items())


def in_step(monkeypatch, which, action):
    """Do something in the middle of the step `which` of the run."""
    update, steps = Update.__call__, iter(range(1000))

    def disturbed(*args):
        if next(steps) == which:
            action()
        return update(*args)

    monkeypatch.setattr(Update, "__call__", disturbed)


FEW = shlex.split("--train_per_class 3 --label_noise 0.2 --num_epoch 5 --eval_every 2")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Few samples with noisy labels, evaluated after epochs 1, 3 and 4."""
    return run(tmp_path_factory.mktemp("few"), *FEW, "--keep_checkpoints", "20")


def test_few_noisy_samples_and_few_evaluations_are_what_a_run_says_that_they_are(few, capsys):
    folder, result = few
    records = read_records(folder, 5)
    assert [record["epoch"] for record in records if "test" in record] == [1, 3, 4]
    assert evaluated(records) == [records[1], records[3], records[4]]
    assert set(records[0]) == {"epoch", "lr", "train", "timing"}
    assert result["epochs"] == 5 and result["best_epoch"] in (1, 3, 4)
    assert result["test_top1"] == records[4]["test"]["top1"]
    log = (folder / "train.log").read_text()
    said = "training set: 3 of each of 10 classes, 30 of 512 samples (--train_per_class 3, seed 60)"
    assert said in log
    assert "training labels: 6 of 30 were replaced (--label_noise 0.2, seed 60)" in log
    lines = [line for line in log.splitlines() if " INFO epoch " in line]
    assert [("; test " in line, "; best " in line) for line in lines] == [
        (epoch in (1, 3, 4),) * 2 for epoch in range(5)
    ]
    best = load_checkpoint(folder / "best.pt")
    assert best["epoch"] == result["best_epoch"] + 1
    (row,) = runs.main([folder])
    assert (row["epochs"], row["last"]) == (5, result["test_top1"])
    track.main([folder])
    assert "- train_per_class 3 (published: 'none')" in capsys.readouterr().out
    curves.main([str(folder)])


@pytest.mark.parametrize("step", [2, 17])
def test_a_run_of_few_evaluations_goes_on_exactly(step, few, monkeypatch, tmp_path):
    """Stopped before there was any, and in the last epoch, which is evaluated as such."""
    with monkeypatch.context() as patch:
        in_step(patch, step, lambda: signal.raise_signal(signal.SIGTERM))
        assert micro_run.ending(command(tmp_path, *FEW))[0] == 143
    again = run(tmp_path, *FEW, "--resume", "auto", "--num_workers", "2")
    assert micro_run.outcome(again.folder) == micro_run.outcome(few.folder)
    assert again.result == {**few.result, "folder": str(again.folder)}


@pytest.mark.parametrize(
    ("begun", "asked", "words"),
    [
        (1, 1, "finished: no epoch was evaluated (--eval_every)"),
        (3, 3, "% after epoch 1, "),
        (3, 4, "% after the last epoch, "),
    ],
)
def test_a_checkpoint_of_an_epoch_without_an_evaluation_goes_on(begun, asked, words, few, tmp_path):
    """Where nothing is left to do, the result is that of the last evaluation."""
    folder = shutil.copytree(few.folder, tmp_path / few.folder.name)
    places = {path: load_checkpoint(path) for path in folder.glob("last*.pt")}
    (path,) = [p for p, state in places.items() if (state["epoch"], state["batch"]) == (begun, 0)]
    code, text = micro_run.ending(
        command(tmp_path, "--resume", str(path), "--num_epoch", str(asked))
    )
    assert code == 0 and words in text
    assert len(read_records(folder, asked)) == asked
    (row,) = runs.main([folder])
    assert (row["last"] is None) == (asked == 1)
    curves.main([str(folder)])


@pytest.mark.parametrize(
    ("step", "numbers", "code", "words", "saved"),
    [
        (2, [signal.SIGTERM], 143, "stopped by SIGTERM at epoch 0, step 3; all is saved", 3),
        (3, [signal.SIGTERM, signal.SIGINT], 130, "at once", 2),  # of --checkpoint_every 2
    ],
)
def test_a_signal_ends_the_run_after_its_step_and_a_second_one_at_once(
    step, numbers, code, words, saved, monkeypatch, tmp_path
):
    handlers = [signal.getsignal(number) for number in STOP_SIGNALS]
    in_step(monkeypatch, step, lambda: [signal.raise_signal(number) for number in numbers])
    ended, text = micro_run.ending(command(tmp_path))
    assert ended == code and words in text
    assert load_checkpoint(folder_in(tmp_path) / "last.pt")["batch"] == saved
    assert handlers == [signal.getsignal(number) for number in STOP_SIGNALS]


def ending_in_thread(log_path, *more):
    """Exit code and output of the command in a thread of its own."""
    endings = []

    def work():
        endings.append(micro_run.ending(command(log_path, *more)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return endings[0]


def test_an_interrupted_thread_finishes_its_step_and_saves(finished, monkeypatch, tmp_path):
    """As a tuning library may interrupt one; the resumed run is the same run."""

    def interrupt():
        error = ctypes.py_object(KeyboardInterrupt)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(caller[0]), error)
        time.sleep(0.5)  # it is raised in that thread meanwhile

    caller, load = [], micro_run.few_images
    monkeypatch.setattr(
        micro_run, "few_images", lambda data: caller.append(threading.get_ident()) or load(data)
    )
    in_step(monkeypatch, 2, interrupt)
    code, text = ending_in_thread(tmp_path)
    assert code == 130
    assert "outside the main thread no signal stops" in text
    assert "stopped by SIGINT at epoch 0, step 3; all is saved" in text
    assert load_checkpoint(folder_in(tmp_path) / "last.pt")["batch"] == 3
    assert ending_in_thread(tmp_path, "--resume", "auto")[0] == 0
    assert micro_run.outcome(folder_in(tmp_path)) == micro_run.outcome(finished.folder)


def test_a_non_finite_loss_ends_the_run_with_code_1(tmp_path):
    code, text = micro_run.ending(command(tmp_path, "--lr", "1e30"))
    assert code == 1
    for said in (text, (folder_in(tmp_path) / "train.log").read_text()):
        assert "is not finite" in said.splitlines()[-1]
