"""The published command, on two processes and real, tiny JPEG files."""

import json
import shlex
import signal
from pathlib import Path

import pytest
import torch

from experiment.imagenet.main import main
from tests.support.image_files import write_image_folder
from tests.support.interruption import main_until
from tests.support.processes import run_processes
from util.checkpoint import load_checkpoint

PUBLISHED = (
    "--seed 60 --arch preact_resnet34 --dataset imagenet --data_path {folder} --auto_aug --cutout "
    "--wd 2e-5 --num_workers 16 --decay 0.2 --T 4 --detach_reset --alp 0.7 --beta 0.3"
)
# The size of the network, the images and the run, not what is computed.
TINY = (
    "--width 4 --T 2 --image_size 32 --branch_pool global --train_batch_size 12 --val_batch_size 8 "
    "--num_epoch 2 --num_workers 1 --device cpu --checkpoint_every 3"
)
STEPS = 4  # of 40 images in batches of 12, per epoch; the last one has four


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_image_folder(tmp_path_factory.mktemp("imagenet"))


def command(folder: Path, log_path: Path, *more: str) -> list[str]:
    published = shlex.split(PUBLISHED.format(folder=folder))
    return [*published, *shlex.split(TINY), "--log_path", str(log_path), *more]


def records_of(run: Path) -> list[dict]:
    """What a run wrote for each epoch, without times."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k != "timing"} for record in records]


def only_run(log_path: Path) -> Path:
    (run,) = log_path.glob("imagenet_preact_resnet34_T*_esd_seed60_*")
    return run


def assert_same_state(one: Path, other: Path) -> None:
    a, b = (load_checkpoint(run / "last.pt") for run in (one, other))
    assert a["epoch"] == b["epoch"]
    for name, value in a["model"].items():
        assert torch.equal(value, b["model"][name]), name


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory) -> tuple[list[dict], Path]:
    """Both processes' results of an undisturbed run, and where it wrote."""
    log_path = tmp_path_factory.mktemp("runs")
    return run_processes(main, 2, command(folder, log_path), joined=False), log_path


def test_the_published_command_trains_on_two_processes(finished):
    (first, second), log_path = finished
    assert first == second
    run = only_run(log_path)
    records = records_of(run)
    assert [record["epoch"] for record in records] == [0, 1]
    assert records[-1]["test"]["samples"] == 20
    assert records[-1]["test"]["top1"] == first["test_top1"]
    timing = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["timing"]
    assert timing["images_per_second"] == 2 * timing["images_per_second_per_device"] > 0
    assert 0 <= timing["data_wait"] <= 1


def test_a_run_that_one_process_was_asked_to_stop_goes_on_exactly(finished, folder, tmp_path):
    """In the middle of the second epoch; who loads the images changes nothing."""
    argv = command(folder, tmp_path / "runs", "--resume", "auto", "--num_workers", "0")
    (tmp_path / "runs").mkdir()
    interrupted = (main, argv, STEPS + 2, 1, signal.SIGTERM, tmp_path / "stderr")
    assert run_processes(main_until, 2, *interrupted, joined=False) == [143, 143]
    assert "stopped by" in (tmp_path / "stderr.0").read_text()
    first, second = run_processes(main, 2, argv, joined=False)
    run, whole = only_run(tmp_path / "runs"), only_run(finished[1])
    assert first == second == {**finished[0][0], "folder": str(run)}
    assert records_of(run) == records_of(whole)
    assert_same_state(run, whole)


def test_a_saved_network_is_evaluated_by_two_processes(finished, folder, tmp_path):
    run = only_run(finished[1])
    argv = command(folder, tmp_path, "--evaluate", str(run / "last.pt"))
    first, second = run_processes(main, 2, argv, joined=False)
    assert first == second
    assert first["top1"] == records_of(run)[-1]["test"]["top1"]
    assert first["samples"] == 20
    assert list(tmp_path.iterdir()) == []


def test_more_samples_of_each_class_than_there_are_are_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(command(folder, tmp_path, "--train_per_class", "3"))
    assert end.value.code == 2
    sentence = "error: class 'class_00' has 2 training samples, and --train_per_class asks for 3"
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_parts_of_a_step_are_resumed_exactly(folder, tmp_path):
    """One process with --accum: the position counts whole steps."""
    more = ("--accum", "3", "--width", "2", "--num_workers", "0", "--T", "1")
    whole = only_run(Path(main(command(folder, tmp_path, *more))["folder"]).parent)
    argv = command(folder, tmp_path / "again", *more, "--resume", "auto")
    (tmp_path / "again").mkdir()
    stop = (STEPS + 3, 0, signal.SIGTERM, tmp_path / "stderr")
    assert main_until(main, argv, *stop) == 143
    main(argv)
    again = only_run(tmp_path / "again")
    assert records_of(again) == records_of(whole)
    assert_same_state(again, whole)
    assert "--accum 3: batch norm sees 4 images at a time" in (whole / "train.log").read_text()
